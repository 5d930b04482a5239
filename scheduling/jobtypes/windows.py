"""What the tiles of a segmentation see, read when it is wanted: one after the other, or by several threads at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scheduling.jobtypes.layout import Layout
from scheduling.slides.reading.interface import RGB, SlideReader
from scheduling.slides.reading.tiling import read_window
from scheduling.tilestore.stage_times import Work


@dataclass(frozen=True, kw_only=True)
class Windows:
    """The windows of some tiles: each (tile, window) in order, read as it is taken, or any by `read`.

    Threads share the reader: it locks nothing while it decodes, and what one of them has decoded its neighbours need too.
    """

    reader: SlideReader
    layout: Layout
    tiles: Sequence[int]
    #: Where the time is counted, as stage "read".
    work: Work

    def __iter__(self) -> Iterator[tuple[int, RGB]]:
        return ((tile, self.read(tile)) for tile in self.tiles)

    def read(self, tile: int) -> RGB:
        """uint8 (window, window, 3) at model resolution; from any thread. Raises UnreadableSlide."""
        with self.work.stage("read"):
            return read_window(self.reader, self.layout.grid.window(self.layout.cores[tile]), self.layout.downsample)

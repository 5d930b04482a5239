"""The finished tiles of a segmentation as the viewer shows them: cells, vector tiles, counts. Works while the job runs.

A worker puts the counts of a tile into the head of its record, so that an overview reads a few hundred bytes of it and
nothing is decoded; finishing gathers the counts of many tiles into one part.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scheduling.jobtypes.base import Step
from scheduling.jobtypes.layout import Layout
from scheduling.jobtypes.tilefiles import CorruptTile, MissingTile, TileFolder
from scheduling.slides import density, vectortiles
from scheduling.slides.cells import decode
from scheduling.slides.density import Counts
from scheduling.slides.showing import centroids_of, classes_of, shown_rows, vector_tile
from scheduling.slides.tiling import Box

#: The key in the head of a record.
DENSITY = b"density"
TILES_A_PART = 250
#: Enough for the schema and the counts of a dense tile; a head that is longer is read once more.
_HEAD_BYTES = 6144
_ENTRY = struct.Struct("<II")
_STREAM = struct.Struct("<II")


def core_box(layout: Layout, tile: int) -> Box:
    """The core of a tile in full-resolution pixels."""
    core, scale = layout.grid.core(layout.cores[tile]), layout.downsample
    return Box(left=core.left * scale, top=core.top * scale, right=core.right * scale, bottom=core.bottom * scale)


def metadata_of(cells: pa.Table, layout: Layout, tile: int) -> dict[str, bytes]:
    """What goes into the head of a tile's record."""
    core = core_box(layout, tile)
    return {DENSITY.decode(): density.to_bytes(_counted(cells.take(pa.array(shown_rows(cells))), core), core)}


@dataclass(frozen=True, kw_only=True)
class ShownTiles:
    """What there is to show of one piece of work."""

    tiles: TileFolder
    layout: Layout

    def rows(self, cells: pa.Table, tile: int) -> npt.NDArray[np.int64]:
        """Rows of the tile's table to show, ascending."""
        return shown_rows(cells)

    def cells(self, tile: int) -> pa.Table:
        """The cells of a tile that are shown. Raises MissingTile, CorruptTile."""
        cells = decode(self.tiles.read(tile))
        return cells.take(pa.array(self.rows(cells, tile)))

    def vector(self, tile: int) -> bytes:
        """The vector tile. Raises MissingTile, CorruptTile."""
        cells = decode(self.tiles.read(tile))
        core = core_box(self.layout, tile)
        return vectortiles.encode(vector_tile(cells, self.rows(cells, tile), tile, core, self.layout.downsample))

    def counts(self, tiles: Sequence[int]) -> Iterator[tuple[int, Counts]]:
        """(tile, its counts) of those tiles, ascending, that are there and whole."""
        for part in sorted({tile // TILES_A_PART for tile in tiles}):
            wanted = [tile for tile in tiles if tile // TILES_A_PART == part]
            gathered = self._gathered(part)
            yield from ((tile, counts) for tile, counts in gathered if tile in set(wanted))
            known = {tile for tile, _ in gathered}
            yield from self._counts_of_heads([tile for tile in wanted if tile not in known])

    def gathering(self) -> list[Step]:
        """Steps of finishing that gather the counts into parts."""
        return [partial(self._gather, part) for part in range(-(-len(self.layout.cores) // TILES_A_PART))]

    def _gather(self, part: int) -> None:
        tiles = range(part * TILES_A_PART, min(len(self.layout.cores), (part + 1) * TILES_A_PART))
        entries = [(tile, density.to_bytes(counts, core_box(self.layout, tile))) for tile, counts in self._counts_of_heads(tiles)]
        self.tiles.publish_part(_part(part), b"".join(_ENTRY.pack(tile, len(data)) + data for tile, data in entries))

    def _gathered(self, part: int) -> list[tuple[int, Counts]]:
        """What finishing has gathered; nothing when it has not, or when that is damaged."""
        try:
            data = self.tiles.read_part(_part(part))
        except MissingTile:
            return []
        found, at = [], 0
        while at < len(data):
            tile, size = _ENTRY.unpack_from(data, at)
            at += _ENTRY.size + size
            found.append((tile, density.from_bytes(data[at - size : at], core_box(self.layout, tile))))
        return found

    def _counts_of_heads(self, tiles: Sequence[int]) -> Iterator[tuple[int, Counts]]:
        for tile, head in self.tiles.heads(tiles, _HEAD_BYTES):
            try:
                yield tile, self._counts(tile, head)
            except (MissingTile, CorruptTile):
                continue

    def _counts(self, tile: int, head: bytes) -> Counts:
        """From the head of a record; from its cells when the head does not hold them whole. Raises MissingTile, CorruptTile."""
        core = core_box(self.layout, tile)
        try:
            return density.from_bytes(self._metadata(tile, head)[DENSITY], core)
        except (ValueError, KeyError, pa.ArrowException):
            return _counted(self.cells(tile), core)

    def _metadata(self, tile: int, head: bytes) -> dict[bytes, bytes]:
        _, size = _STREAM.unpack_from(head) if len(head) >= _STREAM.size else (0, 0)
        if size + _STREAM.size > len(head) >= _HEAD_BYTES:
            head = next((data for _, data in self.tiles.heads([tile], size + _STREAM.size)), b"")
        return dict(pa.ipc.read_schema(pa.py_buffer(head)).metadata or {})


def _counted(cells: pa.Table, core: Box) -> Counts:
    return density.counted(*centroids_of(cells), classes_of(cells), core)


def _part(number: int) -> str:
    return f"density.{number:05d}"

"""The finished tiles of a segmentation as the viewer shows them: cells, vector tiles, counts. Works while the job runs.

A worker puts the counts of a tile into the head of its record, so that an overview reads a few hundred bytes of it and
nothing is decoded; finishing gathers the counts of many tiles into one part. Until the seams are settled a tile shows its own
cells; afterwards the same rows as the artifacts have, which nearly always are these.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scheduling.jobtypes.base import Step
from scheduling.jobtypes.layout import Layout
from scheduling.slides.nuclei.cells import decode
from scheduling.slides.nuclei.seams import Exceptions, from_json, settled_rows
from scheduling.slides.reading.tiling import Box
from scheduling.tilestore.tilefiles import MissingTile, TileFolder
from scheduling.viewer import density, vectortiles
from scheduling.viewer.cell_rows import centroids_of, classes_of, vector_tile
from scheduling.viewer.density import Counts

#: The key in the head of a record.
DENSITY = b"density"
#: The part of the tile folder that says which rows are in the result.
SETTLED = "settled"
TILES_A_PART = 250
#: Enough for the schema and the counts of a dense tile; a head that is longer is read once more.
_HEAD_BYTES = 6144
_ENTRY = struct.Struct("<II")
_STREAM = struct.Struct("<II")


def core_boxes(layout: Layout) -> npt.NDArray[Any]:
    """(tiles, 4): left, top, right, bottom of each tile's core in full-resolution pixels, whole numbers only where the scale is one.

    A viewer computes the same from the manifest, to the bit.
    """
    grid, core = layout.grid, layout.full_px(layout.grid.core_px)
    row, column = np.divmod(np.asarray(layout.cores, np.int64), grid.columns)
    left, top = layout.full_px(-grid.offset_x) + column * core, layout.full_px(-grid.offset_y) + row * core
    return np.column_stack([left, top, left + core, top + core])


def core_box(layout: Layout, tile: int) -> Box:
    """The core of a tile in full-resolution pixels, the nearest whole ones."""
    core = layout.grid.core(layout.cores[tile])
    left, top, right, bottom = (round(edge * layout.downsample) for edge in (core.left, core.top, core.right, core.bottom))
    return Box(left=left, top=top, right=right, bottom=bottom)


@dataclass(frozen=True, kw_only=True)
class ShownTiles:
    """What there is to show of one piece of work."""

    tiles: TileFolder
    layout: Layout
    #: Microns per full-resolution pixel.
    mpp: float

    @property
    def class_names(self) -> Sequence[str]:
        """Of the classes 0, 1, …, as the job type has fixed them."""
        names: Sequence[str] = self.layout.constants.get("classes") or ("Nucleus",)
        return names

    @cached_property
    def exceptions(self) -> Exceptions:
        """Rows that are shown, or not, against the rule: none until the seams are settled."""
        try:
            return settled_parts(self.tiles.path)
        except MissingTile:
            return {}

    @cached_property
    def side(self) -> int:
        """Bins along a side of a core."""
        return density.bins_a_side(self.layout.full_px(self.layout.grid.core_px), self.mpp)

    def metadata(self, cells: pa.Table, tile: int) -> dict[str, bytes]:
        """What goes into the head of a tile's record."""
        counts = self._counted(_taken(cells, settled_rows(cells)), tile)
        return {DENSITY.decode(): density.to_bytes(counts, self._corner(tile))}

    def rows(self, cells: pa.Table, tile: int) -> npt.NDArray[np.int64]:
        """Rows of the tile's table to show, ascending."""
        return settled_rows(cells, self.exceptions.get(tile, ()))

    def cells(self, tiles: Sequence[int]) -> Iterator[tuple[int, pa.Table]]:
        """(tile, the cells of it that are shown) of those tiles, ascending, that are there and whole."""
        for tile, payload in self.tiles.payloads(tiles):
            cells = decode(payload)
            yield tile, _taken(cells, self.rows(cells, tile))

    def vector(self, tile: int) -> bytes:
        """The vector tile. Raises MissingTile, CorruptTile."""
        cells = decode(self.tiles.read(tile))
        core = core_box(self.layout, tile)
        return vectortiles.encode(vector_tile(cells, self.rows(cells, tile), tile, core, self.layout.downsample))

    def counts(self, tiles: Sequence[int]) -> Iterator[tuple[int, Counts]]:
        """(tile, its counts) of those tiles, ascending, that are there and whole."""
        for part, group in itertools.groupby(tiles, key=lambda tile: tile // TILES_A_PART):
            wanted = list(group)
            gathered = self._gathered(part) if wanted else {}
            for tile in wanted:
                if tile in gathered:
                    yield tile, density.from_bytes(gathered[tile], self._corner(tile), self.side)
            yield from self._counts_of_heads([tile for tile in wanted if tile not in gathered])

    def gathering(self) -> list[Step]:
        """Steps of finishing that gather the counts into parts."""
        return [partial(self._gather, part) for part in range(-(-len(self.layout.cores) // TILES_A_PART))]

    def _gather(self, part: int) -> None:
        tiles = range(part * TILES_A_PART, min(len(self.layout.cores), (part + 1) * TILES_A_PART))
        entries = [(tile, density.to_bytes(counts, self._corner(tile))) for tile, counts in self._counts_of_heads(tiles)]
        self.tiles.publish_part(_part(part), b"".join(_ENTRY.pack(tile, len(data)) + data for tile, data in entries))

    def _gathered(self, part: int) -> dict[int, bytes]:
        """What finishing has gathered, by tile; nothing when it has not, or when that is damaged."""
        try:
            data = self.tiles.read_part(_part(part))
        except MissingTile:
            return {}
        found, at = {}, 0
        while at < len(data):
            tile, size = _ENTRY.unpack_from(data, at)
            at += _ENTRY.size + size
            found[tile] = data[at - size : at]
        return found

    def _counts_of_heads(self, tiles: Sequence[int]) -> Iterator[tuple[int, Counts]]:
        without = [tile for tile in tiles if tile in self.exceptions]
        for tile, head in self.tiles.heads([tile for tile in tiles if tile not in self.exceptions], _HEAD_BYTES):
            try:
                yield tile, density.from_bytes(self._metadata(tile, head)[DENSITY], self._corner(tile), self.side)
            except (ValueError, KeyError, pa.ArrowException):
                without.append(tile)
        yield from ((tile, self._counted(cells, tile)) for tile, cells in self.cells(sorted(without)))

    def _corner(self, tile: int) -> tuple[int, int]:
        """Upper left corner of the tile's core."""
        core = core_box(self.layout, tile)
        return core.left, core.top

    def _counted(self, cells: pa.Table, tile: int) -> Counts:
        return density.counted(*centroids_of(cells), classes_of(cells), core_box(self.layout, tile), self.side)

    def _metadata(self, tile: int, head: bytes) -> dict[bytes, bytes]:
        _, size = _STREAM.unpack_from(head) if len(head) >= _STREAM.size else (0, 0)
        if size + _STREAM.size > len(head) >= _HEAD_BYTES:
            head = next((data for _, data in self.tiles.heads([tile], size + _STREAM.size)), b"")
        return dict(pa.ipc.read_schema(pa.py_buffer(head)).metadata or {})


@lru_cache(maxsize=32)
def settled_parts(path: Path) -> Exceptions:
    """What was published once does not change. Raises MissingTile."""
    return from_json(TileFolder(path).read_part(SETTLED))


def _taken(cells: pa.Table, rows: npt.NDArray[np.int64]) -> pa.Table:
    return cells if len(rows) == len(cells) else cells.take(pa.array(rows))


def _part(number: int) -> str:
    return f"density.{number:05d}"

"""From finished tiles of cells to artifacts, in short steps: seams, then blocks of cells, then each artifact from its blocks.

Cells are numbered by blocks of a grid that is the same for all runs, and inside a block by place. Every step may be repeated
and then writes the same bytes; a block's first number is what the block before it noted down.
"""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from scheduling.jobtypes.base import JobContext, Step
from scheduling.jobtypes.cell_totals import Totals, noted
from scheduling.jobtypes.layout import Layout
from scheduling.jobtypes.masks import limit_of, within
from scheduling.jobtypes.parameters import slide_of
from scheduling.jobtypes.reading import reader_of
from scheduling.jobtypes.shown import SETTLED
from scheduling.slides.export import geojson, tables
from scheduling.slides.nuclei import seams
from scheduling.slides.nuclei.cell_table import CellTable, kind_of
from scheduling.slides.nuclei.cells import decode, encode
from scheduling.slides.nuclei.seams import Competing, Rival, competing, conflicts, settled_rows
from scheduling.slides.reading.pyramid import from_png
from scheduling.slides.reading.tiling import GUARD_PX, Box, cores_meeting
from scheduling.slides.tissue.outlines import tissue_polygons

ARTIFACTS = (
    "results.json",
    "cells.geojson",
    "cells.geojson.gz",
    "cells.csv",
    "cells.parquet",
    "tissue.geojson",
    "mask.png",
    "summary.json",
)
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_COPY_BYTES = 1 << 20
#: Level 6 takes four times as long and saves a quarter of the bytes.
_LEVEL = 1
#: Side of the blocks in which cells are written, in model pixels: part of the order, so the same whatever the tiles.
BLOCK_PX = 768


@dataclass(frozen=True, kw_only=True)
class Export:
    """The cells of one job's tiles on their way to its artifacts."""

    context: JobContext
    layout: Layout
    fingerprint: str

    @cached_property
    def blocks(self) -> list[Box]:
        """The squares of one grid, the same for all tiles, in which cells may be, row by row: the order of the artifacts."""
        plain = replace(self.layout.grid, core_px=BLOCK_PX, offset_x=0, offset_y=0)
        found: set[int] = set()
        for core in self.layout.cores:
            found.update(cores_meeting(plain, self.layout.grid.core(core).dilated(GUARD_PX)))
        return [plain.core(block) for block in sorted(found)]

    def steps(self) -> list[Step]:
        """All but the summary and the publication."""
        return [
            *(partial(self._write_conflicts, tile) for tile in range(len(self.layout.cores))),
            self._settle,
            *(partial(self._write_block, block) for block in range(len(self.blocks))),
            partial(self._join, "results.json", b"[\n", b"\n]\n"),
            partial(self._join, "cells.geojson", geojson.HEAD, geojson.TAIL),
            self._join_gzip,
            partial(self._join, "cells.csv", b"", b""),
            self._write_parquet,
            self._write_mask,
        ]

    def totals(self) -> Totals:
        """Number of cells, and sums over them, of all blocks."""
        return Totals.of([self._noted(block) for block in range(len(self.blocks))], self.kind)

    def publish(self) -> None:
        """Move the joined files to the artifacts."""
        for name in ARTIFACTS:
            self.context.publish_artifact(name)

    def cells(self, block: int) -> pa.Table:
        """The cells of a block by y and x of their centroids, which no grid can change."""
        box, full_px = self.blocks[block], self.layout.full_px
        parts = [self.kind.schema_at(self.layout.downsample).empty_table()]
        for tile in self._tiles_meeting(box.dilated(GUARD_PX)):
            cells = self._read(tile)
            x, y = (np.asarray(cells[name]) for name in ("centroid_x_px", "centroid_y_px"))
            across = (x >= full_px(box.left)) & (x < full_px(box.right))
            inside = across & (y >= full_px(box.top)) & (y < full_px(box.bottom))
            parts.append(cells.filter(pa.array(inside)))
        found = pa.concat_tables(parts)
        return found.take(pa.array(np.lexsort([np.asarray(found[name]) for name in ("area_um2", "centroid_x_px", "centroid_y_px")])))

    @cached_property
    def kind(self) -> CellTable:
        """What the cells have, by the first tile; all tiles of a job are alike."""
        return kind_of(decode(self.context.tiles.read(0)))

    @cached_property
    def _read(self) -> Callable[[int], pa.Table]:
        """The cells of a tile that are in the result. Blocks in a row ask for the same few tiles."""
        return lru_cache(maxsize=4)(self._settled)

    @cached_property
    def _competing(self) -> Callable[[int], Competing]:
        """What of a tile competes; a tile is asked for by its neighbours in this row and the next one."""
        return lru_cache(maxsize=2 * self.layout.grid.columns)(lambda tile: competing(decode(self.context.tiles.read(tile)), tile))

    def _settled(self, tile: int) -> pa.Table:
        cells = decode(self.context.tiles.read(tile))
        return cells.take(pa.array(settled_rows(cells, self._exceptions.get(tile, ()))))

    @cached_property
    def _exceptions(self) -> seams.Exceptions:
        return seams.from_json(self.context.tiles.read_part(SETTLED))

    @cached_property
    def _tile_of_core(self) -> dict[int, int]:
        return {core: tile for tile, core in enumerate(self.layout.cores)}

    def _tiles_meeting(self, box: Box) -> list[int]:
        cores = cores_meeting(self.layout.grid, box)
        return [self._tile_of_core[core] for core in cores if core in self._tile_of_core]

    def _write_conflicts(self, tile: int) -> None:
        """Note what of a tile competes with neighbours that come after it."""
        near = self.layout.grid.core(self.layout.cores[tile]).dilated(GUARD_PX)
        after = [other for other in self._tiles_meeting(near) if other > tile]
        pairs = [pair for other in after for pair in conflicts(self._competing(tile), self._competing(other))]
        noted = {"pairs": [[tuple(one), tuple(other)] for one, other in pairs], "guards": seams.guards(self._competing(tile))}
        self.context.put_part(_part("conflicts", tile), orjson.dumps(noted))

    def _settle(self) -> None:
        """Publish which rows are taken, so that the viewer shows the same cells."""
        paths = [self.context.part_path(_part("conflicts", tile)) for tile in range(len(self.layout.cores))]
        noted = [orjson.loads(path.read_bytes()) for path in paths]
        lost = seams.dropped((Rival(*one), Rival(*other)) for note in noted for one, other in note["pairs"])
        found = seams.exceptions(lost, {tile: note["guards"] for tile, note in enumerate(noted)})
        self.context.tiles.publish_part(SETTLED, seams.to_json(found))

    def _write_block(self, block: int) -> None:
        cells, before = self.cells(block), self._noted(block - 1)
        first_id = int(before["cells"]) + 1
        lead = geojson.SEPARATOR if before["cells"] and len(cells) else b""
        features = lead + geojson.cell_features(cells, self.fingerprint)
        for name, data in (
            ("results.json", lead + geojson.result_entries(cells, first_id)),
            ("cells.geojson", features),
            ("cells.geojson.gz", deflated(features) if features else b""),
            ("cells.csv", tables.csv_rows(cells, first_id, header=block == 0)),
            ("cells", encode(cells)),
            ("totals", orjson.dumps(_added(before, len(cells), features) | noted(cells))),
        ):
            self.context.put_part(_part(name, block), data)

    def _noted(self, block: int) -> dict[str, Any]:
        """Of a block: what has been written up to and with it, and the areas of its own cells."""
        if block < 0:
            return {"cells": 0, "bytes": len(geojson.HEAD), "crc": zlib.crc32(geojson.HEAD)}
        noted: dict[str, Any] = orjson.loads(self.context.part_path(_part("totals", block)).read_bytes())
        return noted

    def _join(self, name: str, head: bytes, tail: bytes) -> None:
        with self.context.write_part(name) as target:
            target.write(head)
            for block in range(len(self.blocks)):
                with self.context.part_path(_part(name, block)).open("rb") as source:
                    shutil.copyfileobj(source, target, _COPY_BYTES)
            target.write(tail)

    def _join_gzip(self) -> None:
        """One gzip member (RFC 1952) without a time, from deflated blocks that end at a byte."""
        totals = self._noted(len(self.blocks) - 1)
        crc = zlib.crc32(geojson.TAIL, int(totals["crc"]))
        length = (int(totals["bytes"]) + len(geojson.TAIL)) & 0xFFFFFFFF
        head = _GZIP_HEAD + deflated(geojson.HEAD)
        self._join("cells.geojson.gz", head, deflated(geojson.TAIL, is_last=True) + struct.pack("<II", crc, length))

    def _write_mask(self) -> None:
        """The mask that was used, and its outlines."""
        png, slide = self.context.tiles.read_part("mask.png"), slide_of(self.context)
        reader, downsample = reader_of(self.context), self.layout.mask_downsample
        polygons = tissue_polygons(from_png(png), downsample, reader.width, reader.height)
        limited = within(polygons, limit_of(self.context, reader))
        self.context.put_part("mask.png", png)
        self.context.put_part("tissue.geojson", geojson.tissue_collection(limited, self.fingerprint, slide.mpp, downsample))

    def _write_parquet(self) -> None:
        with self.context.write_part("cells.parquet") as target:
            tables.write_parquet(target, self._all_cells(), self.kind)

    def _all_cells(self) -> Iterator[pa.Table]:
        """The blocks as their steps have put them together."""
        return (decode(self.context.part_path(_part("cells", block)).read_bytes()) for block in range(len(self.blocks)))


def _added(before: dict[str, Any], cells: int, features: bytes) -> dict[str, Any]:
    """What has been written, with one block more."""
    return {
        "cells": before["cells"] + cells,
        "bytes": before["bytes"] + len(features),
        "crc": zlib.crc32(features, int(before["crc"])),
    }


def deflated(data: bytes, *, is_last: bool = False) -> bytes:
    """Raw deflate of `data` that ends at a byte and refers to nothing before it, so that such pieces can be joined."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush(zlib.Z_FINISH if is_last else zlib.Z_FULL_FLUSH)


def _part(name: str, number: int) -> str:
    return f"{name}.{number:06d}"

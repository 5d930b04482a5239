"""From finished tiles of cells to artifacts, in short steps: seams, then blocks of cells, then each artifact from its blocks.

Cells are numbered by blocks of a grid that is the same for all runs, and inside a block by place. Every step may be repeated
and then writes the same bytes; a block's first number is what the block before it noted down.
"""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from scheduling.jobtypes.base import JobContext, Step
from scheduling.jobtypes.layout import Layout
from scheduling.jobtypes.masks import limit_of, within
from scheduling.jobtypes.parameters import slide_of
from scheduling.jobtypes.reading import reader_of
from scheduling.slides import geojson, seams, tables
from scheduling.slides.cell_table import CellTable, kind_of
from scheduling.slides.cells import decode, encode
from scheduling.slides.pyramid import from_png
from scheduling.slides.seams import Rival, conflicts, settled
from scheduling.slides.tiling import GUARD_PX, Box, cores_meeting
from scheduling.slides.tissue_outlines import tissue_polygons

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
_NO_AREAS: dict[str, Any] = {"count": 0, "sum": 0.0, "squares": 0.0, "counts": {}}
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

    def totals(self) -> dict[str, Any]:
        """Number of cells, and sums over them, of all blocks."""
        return self._noted(len(self.blocks) - 1)

    def publish(self) -> None:
        """Move the joined files to the artifacts."""
        for name in ARTIFACTS:
            self.context.publish_artifact(name)

    def cells(self, block: int) -> pa.Table:
        """The cells of a block by y and x of their centroids, which no grid can change."""
        box, side = self.blocks[block], self.layout.downsample
        parts = [self.kind.schema.empty_table()]
        for tile in self._tiles_meeting(box.dilated(GUARD_PX)):
            cells = settled(decode(self.context.tiles.read(tile)), self._lost.get(tile, ()))
            x, y = (np.asarray(cells[name]) for name in ("centroid_x_px", "centroid_y_px"))
            inside = (x >= box.left * side) & (x < box.right * side) & (y >= box.top * side) & (y < box.bottom * side)
            parts.append(cells.filter(pa.array(inside)))
        found = pa.concat_tables(parts)
        return found.take(pa.array(np.lexsort([np.asarray(found[name]) for name in ("area_um2", "centroid_x_px", "centroid_y_px")])))

    @cached_property
    def kind(self) -> CellTable:
        """What the cells have, by the first tile; all tiles of a job are alike."""
        return kind_of(decode(self.context.tiles.read(0)))

    @cached_property
    def _lost(self) -> dict[int, list[int]]:
        return seams.from_json(self.context.tiles.read_part("seams"))

    @cached_property
    def _tile_of_core(self) -> dict[int, int]:
        return {core: tile for tile, core in enumerate(self.layout.cores)}

    def _tiles_meeting(self, box: Box) -> list[int]:
        cores = cores_meeting(self.layout.grid, box)
        return [self._tile_of_core[core] for core in cores if core in self._tile_of_core]

    def _write_conflicts(self, tile: int) -> None:
        """Note what of a tile competes with neighbours that come after it."""
        grid, tiles = self.layout.grid, self.context.tiles
        near = grid.core(self.layout.cores[tile]).dilated(GUARD_PX)
        cells = decode(tiles.read(tile))
        after = [other for other in self._tiles_meeting(near) if other > tile]
        pairs = [pair for other in after for pair in conflicts(cells, tile, decode(tiles.read(other)), other)]
        self.context.put_part(_part("conflicts", tile), orjson.dumps([[tuple(one), tuple(other)] for one, other in pairs]))

    def _settle(self) -> None:
        """Publish which rows are not taken, so that the viewer shows the same cells."""
        paths = (self.context.part_path(_part("conflicts", tile)) for tile in range(len(self.layout.cores)))
        pairs = ((Rival(*one), Rival(*other)) for path in paths for one, other in orjson.loads(path.read_bytes()))
        self.context.tiles.publish_part("seams", seams.to_json(seams.dropped(pairs)))

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
            ("totals", orjson.dumps(_added(before, cells, features))),
        ):
            self.context.put_part(_part(name, block), data)

    def _noted(self, block: int) -> dict[str, Any]:
        """Totals up to and with a block."""
        if block < 0:
            return {
                "cells": 0,
                "areas": {name: _NO_AREAS for name in self.kind.areas},
                "hematoxylin_od": 0.0,
                "bytes": len(geojson.HEAD),
                "crc": zlib.crc32(geojson.HEAD),
            }
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
        totals = self.totals()
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


def figures(totals: dict[str, Any], tissue_mm2: float) -> dict[str, Any]:
    """Counts, areas and densities for the summary; of whole cells also how many have a nucleus, and their own areas."""
    cells, areas = int(totals["cells"]), totals["areas"]
    nuclei = int(areas["area_um2"]["count"])
    whole = {"nuclei": nuclei, "cell_area_um2": _described(areas["cell_area_um2"])} if "cell_area_um2" in areas else {}
    return {
        "cells": cells,
        "tissue_area_mm2": round(tissue_mm2, 6),
        "cells_per_mm2": round(cells / tissue_mm2, 4) if tissue_mm2 else None,
        "nuclear_area_um2": _described(areas["area_um2"]),
        "hematoxylin_od_mean": round(totals["hematoxylin_od"] / nuclei, 4) if nuclei else None,
        **whole,
    }


def _described(areas: dict[str, Any]) -> dict[str, float | None]:
    """Total, mean, standard deviation and quantiles of noted areas."""
    count = int(areas["count"])
    mean = areas["sum"] / count if count else None
    variance = areas["squares"] / count - mean**2 if mean is not None else None
    return {
        "total": round(areas["sum"], 4),
        "mean": None if mean is None else round(mean, 4),
        "sd": None if variance is None else round(max(0.0, variance) ** 0.5, 4),
        **_quantiles(areas["counts"]),
    }


def _added(before: dict[str, Any], cells: pa.Table, features: bytes) -> dict[str, Any]:
    stained = _finite(cells["hematoxylin_od_mean"])
    return {
        "cells": before["cells"] + len(cells),
        "areas": {name: _noted_areas(noted, _finite(cells[name])) for name, noted in before["areas"].items()},
        "hematoxylin_od": before["hematoxylin_od"] + float(stained.sum()),
        "bytes": before["bytes"] + len(features),
        "crc": zlib.crc32(features, int(before["crc"])),
    }


def _noted_areas(before: dict[str, Any], areas: npt.NDArray[np.float64]) -> dict[str, Any]:
    return {
        "count": before["count"] + len(areas),
        "sum": before["sum"] + float(areas.sum()),
        "squares": before["squares"] + float((areas**2).sum()),
        "counts": _counted(before["counts"], areas),
    }


def _finite(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """What was measured."""
    values = np.asarray(column, np.float64)
    return values[np.isfinite(values)]


def _counted(before: dict[str, int], areas: npt.NDArray[np.float64]) -> dict[str, int]:
    """How many cells have each area; there are few different ones, as they are whole numbers of pixels."""
    counts = dict(before)
    for area, count in zip(*np.unique(areas, return_counts=True), strict=True):
        counts[repr(float(area))] = counts.get(repr(float(area)), 0) + int(count)
    return counts


def _quantiles(counts: dict[str, int]) -> dict[str, float | None]:
    """Least, quartiles and most: the smallest area that at least that part of the cells does not exceed."""
    names = {"min": 0.0, "quartile_1": 0.25, "median": 0.5, "quartile_3": 0.75, "max": 1.0}
    if not counts:
        return dict.fromkeys(names)
    values = np.array(sorted(map(float, counts)))
    reached = np.cumsum([counts[repr(float(value))] for value in values])
    return {name: float(values[np.searchsorted(reached, max(1, part * reached[-1]))]) for name, part in names.items()}


def deflated(data: bytes, *, is_last: bool = False) -> bytes:
    """Raw deflate of `data` that ends at a byte and refers to nothing before it, so that such pieces can be joined."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush(zlib.Z_FINISH if is_last else zlib.Z_FULL_FLUSH)


def _part(name: str, number: int) -> str:
    return f"{name}.{number:06d}"

"""From finished tiles of cells to artifacts, in short steps: each chunk of tiles becomes parts, each artifact joins its parts.

Cells are numbered through in the order of the tiles. Every step may be repeated and then writes the same bytes; a chunk's
first number is what the chunk before it noted down.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from scheduling.jobtypes.base import JobContext, Step
from scheduling.slides import geojson, tables
from scheduling.slides.cells import SCHEMA, decode

ARTIFACTS = ("results.json", "cells.geojson", "cells.csv", "cells.parquet", "summary.json")
#: With up to 2,000 cells in a tile a chunk takes about a quarter of a second.
TILES_A_CHUNK = 3
_COPY_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Export:
    """The cells of one job's tiles 0…tiles-1 on their way to its artifacts."""

    context: JobContext
    tiles: int
    fingerprint: str

    @property
    def chunks(self) -> int:
        return -(-self.tiles // TILES_A_CHUNK)

    def steps(self) -> list[Step]:
        """All but the summary and the publication."""
        return [
            *(partial(self._write_chunk, chunk) for chunk in range(self.chunks)),
            partial(self._join, "results.json", b"[\n", geojson.SEPARATOR, b"\n]\n"),
            partial(self._join, "cells.geojson", geojson.HEAD, geojson.SEPARATOR, geojson.TAIL),
            partial(self._join, "cells.csv", b"", b"", b""),
            self._write_parquet,
        ]

    def totals(self) -> dict[str, float]:
        """Number of cells, and sums over them, of all chunks."""
        return self._noted(self.chunks - 1)

    def publish(self) -> None:
        """Move the joined files to the artifacts."""
        for name in ARTIFACTS:
            self.context.publish_artifact(name)

    def cells(self, chunk: int) -> pa.Table:
        """The cells of a chunk of tiles, in order."""
        indices = range(chunk * TILES_A_CHUNK, min(self.tiles, (chunk + 1) * TILES_A_CHUNK))
        return pa.concat_tables([decode(self.context.tiles.read(index)) for index in indices] or [SCHEMA.empty_table()])

    def _write_chunk(self, chunk: int) -> None:
        cells, before = self.cells(chunk), self._noted(chunk - 1)
        first_id = int(before["cells"]) + 1
        for name, data in (
            ("results.json", geojson.result_entries(cells, first_id)),
            ("cells.geojson", geojson.cell_features(cells, self.fingerprint)),
            ("cells.csv", tables.csv_rows(cells, first_id, header=chunk == 0)),
            ("totals", orjson.dumps(_added(before, cells))),
        ):
            self._write(_part(name, chunk), data)

    def _noted(self, chunk: int) -> dict[str, float]:
        """Totals up to and with a chunk."""
        if chunk < 0:
            return {"cells": 0, "area_um2": 0.0, "area_um2_squared": 0.0, "hematoxylin_od": 0.0}
        noted: dict[str, float] = orjson.loads(self.context.part_path(_part("totals", chunk)).read_bytes())
        return noted

    def _join(self, name: str, head: bytes, separator: bytes, tail: bytes) -> None:
        with self.context.write_part(name) as target:
            target.write(head)
            is_first = True
            for chunk in range(self.chunks):
                path = self.context.part_path(_part(name, chunk))
                if path.stat().st_size:
                    target.write(b"" if is_first else separator)
                    with path.open("rb") as source:
                        shutil.copyfileobj(source, target, _COPY_BYTES)
                    is_first = False
            target.write(tail)

    def _write_parquet(self) -> None:
        with self.context.write_part("cells.parquet") as target:
            tables.write_parquet(target, self._all_cells())

    def _all_cells(self) -> Iterator[pa.Table]:
        return (self.cells(chunk) for chunk in range(self.chunks))

    def _write(self, name: str, data: bytes) -> None:
        with self.context.write_part(name) as file:
            file.write(data)


def figures(totals: dict[str, float], tissue_mm2: float) -> dict[str, Any]:
    """Counts, areas and densities for the summary."""
    cells = int(totals["cells"])
    mean = totals["area_um2"] / cells if cells else None
    variance = totals["area_um2_squared"] / cells - mean**2 if mean is not None else None
    rounded: Callable[[float | None], float | None] = lambda value: None if value is None else round(value, 4)  # noqa: E731
    return {
        "cells": cells,
        "tissue_area_mm2": round(tissue_mm2, 6),
        "cells_per_mm2": rounded(cells / tissue_mm2 if tissue_mm2 else None),
        "nuclear_area_um2": {
            "total": round(totals["area_um2"], 4),
            "mean": rounded(mean),
            "sd": rounded(max(0.0, variance) ** 0.5 if variance is not None else None),
        },
        "hematoxylin_od_mean": rounded(totals["hematoxylin_od"] / cells if cells else None),
    }


def _added(before: dict[str, float], cells: pa.Table) -> dict[str, float]:
    areas, stained = (np.asarray(cells[name]) for name in ("area_um2", "hematoxylin_od_mean"))
    return {
        "cells": before["cells"] + len(cells),
        "area_um2": before["area_um2"] + float(areas.sum()),
        "area_um2_squared": before["area_um2_squared"] + float((areas**2).sum()),
        "hematoxylin_od": before["hematoxylin_od"] + float(stained.sum()),
    }


def _part(name: str, chunk: int) -> str:
    return f"{name}.{chunk:06d}"

"""Sums over the cells of a slide for its summary: noted block by block as plain JSON, added up in the order of the blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scheduling.slides.nuclei.cell_table import CellTable, kind_of

_QUANTILES = {"min": 0.0, "quartile_1": 0.25, "median": 0.5, "quartile_3": 0.75, "max": 1.0}


def noted(cells: pa.Table) -> dict[str, Any]:
    """Of one block: how many nuclei have each area, and whole cells each of theirs; there are few different ones, as they are whole numbers of pixels."""
    areas = {}
    for name in kind_of(cells).areas:
        measured = _finite(cells[name])
        values, counts = np.unique(measured, return_counts=True)
        squares = float((measured**2).sum())
        areas[name] = {"sum": float(measured.sum()), "squares": squares, "values": values.tolist(), "counts": counts.tolist()}
    return {"areas": areas, "hematoxylin_od": float(_finite(cells["hematoxylin_od_mean"]).sum())}


def _finite(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """What was measured."""
    values = np.asarray(column, np.float64)
    return values[np.isfinite(values)]


@dataclass(frozen=True)
class Areas:
    """The areas of all nuclei, or of all whole cells, in µm²."""

    sum: float
    squares: float
    #: Ascending, and how many there are of each.
    values: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, blocks: Sequence[dict[str, Any]]) -> Areas:
        """From what blocks have noted."""
        every = np.concatenate([np.zeros(0), *(np.array(block["values"], np.float64) for block in blocks)])
        values, at = np.unique(every, return_inverse=True)
        counts = np.concatenate([np.zeros(0, np.int64), *(np.array(block["counts"], np.int64) for block in blocks)])
        summed = np.bincount(at, counts, len(values)).astype(np.int64)
        total, squares = (sum((float(block[name]) for block in blocks), 0.0) for name in ("sum", "squares"))
        return cls(total, squares, values, summed)

    @property
    def count(self) -> int:
        return int(self.counts.sum())

    def described(self) -> dict[str, float | None]:
        """Total, mean, standard deviation and quantiles: the smallest area that at least that part does not exceed."""
        if not self.count:
            return {"total": 0.0, "mean": None, "sd": None, **dict.fromkeys(_QUANTILES)}
        mean, reached = self.sum / self.count, np.cumsum(self.counts)
        deviation = max(0.0, self.squares / self.count - mean**2) ** 0.5
        places = {name: int(np.searchsorted(reached, max(1, part * reached[-1]))) for name, part in _QUANTILES.items()}
        quantiles = {name: float(self.values[place]) for name, place in places.items()}
        return {"total": round(self.sum, 4), "mean": round(mean, 4), "sd": round(deviation, 4), **quantiles}


@dataclass(frozen=True)
class Totals:
    """What a summary says of all cells."""

    cells: int
    #: By the column of the table.
    areas: dict[str, Areas]
    hematoxylin_od: float

    @classmethod
    def of(cls, blocks: Sequence[dict[str, Any]], kind: CellTable) -> Totals:
        """From what all blocks have noted, in their order."""
        areas = {name: Areas.of([block["areas"][name] for block in blocks]) for name in kind.areas}
        cells = int(blocks[-1]["cells"]) if blocks else 0
        return cls(cells, areas, sum((float(block["hematoxylin_od"]) for block in blocks), 0.0))

    def figures(self, tissue_mm2: float) -> dict[str, Any]:
        """Counts, areas and densities; of whole cells also how many have a nucleus, and their own areas."""
        nuclei, cell_areas = self.areas["area_um2"], self.areas.get("cell_area_um2")
        whole = {"nuclei": nuclei.count, "cell_area_um2": cell_areas.described()} if cell_areas else {}
        return {
            "cells": self.cells,
            "tissue_area_mm2": round(tissue_mm2, 6),
            "cells_per_mm2": round(self.cells / tissue_mm2, 4) if tissue_mm2 else None,
            "nuclear_area_um2": nuclei.described(),
            "hematoxylin_od_mean": round(self.hematoxylin_od / nuclei.count, 4) if nuclei.count else None,
            **whole,
        }

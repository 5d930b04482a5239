"""Which nucleus belongs to which cell: what a model with both outputs does with its two label maps in the end, in integers.

A cell takes the largest of the nuclei that lie in it by more than half, and its number. Every nucleus is a part of its own
cell; a nucleus without a cell is one itself, a cell without a nucleus keeps what no other object covers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scheduling.slides.nuclei.contours import Ints, Labels
from scheduling.slides.nuclei.detection import only


def resolved(nuclei: Labels, cells: Labels) -> tuple[Labels, Labels]:
    """The two label maps, int32 (h, w), with the same number for a nucleus and its cell; new arrays."""
    if not nuclei.any() or not cells.any():
        return nuclei.copy(), (cells if cells.any() else nuclei).copy()
    nuclei, cells, holder, largest = _claims(nuclei, cells)
    if not largest.any():
        return np.zeros_like(nuclei), np.zeros_like(cells)
    return _merged(nuclei, cells, holder, largest)


def tied(nuclei: Labels, cells: Labels) -> npt.NDArray[np.bool_]:
    """bool (h, w): the cells in which several nuclei are the largest, by the label maps before `resolved`."""
    if not nuclei.any() or not cells.any():
        return np.zeros(nuclei.shape, np.bool_)
    nuclei, cells, holder, largest = _claims(nuclei, cells)
    claims = np.bincount(holder[largest], minlength=int(cells.max()) + 1)
    return np.asarray(claims[cells] > 1)


def _claims(nuclei: Labels, cells: Labels) -> tuple[Labels, Labels, Ints, npt.NDArray[np.bool_]]:
    """Both label maps numbered without gaps, the cell that holds each nucleus, and whether the nucleus is the largest there."""
    nuclei, cells = (only(labels, np.bincount(labels.reshape(-1)) > 0)[0] for labels in (nuclei, cells))
    holder = _holders(nuclei, cells)
    return nuclei, cells, holder, _largest(holder, np.bincount(nuclei.reshape(-1), minlength=len(holder)))


def _holders(nuclei: Labels, cells: Labels) -> Ints:
    """int64 (nuclei + 1,): the cell in which more than half of each nucleus lies, 0 = none."""
    count, width = int(nuclei.max()) + 1, int(cells.max()) + 1
    inside = (nuclei > 0) & (cells > 0)
    pairs, shared = np.unique(nuclei[inside].astype(np.int64) * width + cells[inside], return_counts=True)
    areas = np.bincount(nuclei.reshape(-1), minlength=count)
    nucleus, cell = pairs // width, pairs % width
    most = shared.astype(np.float32) / areas[nucleus].astype(np.float32) > np.float32(0.5)
    holder = np.zeros(count, np.int64)
    holder[nucleus[most]] = cell[most]
    return holder


def _largest(holder: Ints, areas: Ints) -> npt.NDArray[np.bool_]:
    """bool (nuclei + 1,): held by a cell and the largest there; several of one size are all of them."""
    most = np.zeros(int(holder.max()) + 1, np.int64)
    np.maximum.at(most, holder, areas)
    return np.asarray((holder > 0) & (areas == most[holder]))


def _merged(nuclei: Labels, cells: Labels, holder: Ints, largest: npt.NDArray[np.bool_]) -> tuple[Labels, Labels]:
    kept = int(largest.sum())
    # The largest nuclei first, then the others.
    numbers = np.where(largest, np.cumsum(largest), kept + np.cumsum(~largest) - 1).astype(np.int32)
    numbers[0] = 0
    of_cell = np.zeros(int(cells.max()) + 1, np.int32)
    # Backwards, so that of several of one size the first one names the cell.
    chosen = np.flatnonzero(largest)[::-1]
    of_cell[holder[chosen]] = numbers[chosen]
    out_nuclei = numbers[nuclei]
    out_cells = np.where(out_nuclei > 0, out_nuclei, of_cell[cells])
    bare = (out_cells == 0) & (cells > 0)
    out_cells[bare] = cells[bare] + out_cells.max()
    return out_nuclei, out_cells.astype(np.int32)

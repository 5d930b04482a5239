"""From a model's label maps to objects: each nucleus and each cell one piece without holes, a nucleus within the cell of its number."""

from __future__ import annotations

import numpy as np

from scheduling.slides.contours import Ints, Labels, first_pixels, split_pieces
from scheduling.slides.nuclei import fill_rings


def whole_objects(nuclei: Labels, cells: Labels | None) -> tuple[Labels, Labels | None, int]:
    """(nuclei, cells, highest number) of int32 (h, w) label maps: of every label its largest piece by the four neighbours, filled.

    Of pieces of one size the first in raster order is kept; a cell keeps the piece that its nucleus lies in. What lies wholly
    inside another object is dropped. The numbers stay, with gaps.
    """
    nuclei = _filled(nuclei, np.zeros_like(nuclei))
    count = int(nuclei.max(initial=0))
    if cells is None:
        return nuclei, None, count
    cells = _filled(np.where(nuclei > 0, nuclei, cells).astype(np.int32), nuclei)
    stray = np.unique(nuclei[(nuclei > 0) & (cells != nuclei)])
    count = max(count, int(cells.max(initial=0)))
    kept = np.arange(count + 1, dtype=np.int32)
    kept[stray] = 0
    return kept[nuclei], kept[cells], count


def _filled(labels: Labels, cores: Labels) -> Labels:
    """One piece of every label, without holes: the one that holds a pixel of that label in `cores`, else the largest."""
    pieces, count = split_pieces(labels)
    first, areas = first_pixels(pieces, count)
    label = labels.reshape(-1)[first[1:]].astype(np.int64)
    held = np.zeros(count + 1, np.bool_)
    held[np.unique(pieces[(cores > 0) & (cores == labels)])] = True
    numbers = np.zeros(count + 1, np.int32)
    numbers[_best(label, held[1:], areas[1:], first[1:]) + 1] = np.arange(1, len(np.unique(label)) + 1)
    # Filling wants numbers without gaps.
    out = numbers[pieces]
    fill_rings(out)
    names = np.concatenate([[0], np.unique(label)]).astype(np.int32)
    return names[out]


def _best(label: Ints, is_held: np.ndarray[tuple[int], np.dtype[np.bool_]], areas: Ints, first: Ints) -> Ints:
    """Of the pieces of each label, ascending, the one to keep."""
    order = np.lexsort([first, -areas, ~is_held, label])
    return order[np.flatnonzero(np.diff(label[order], prepend=-1))]

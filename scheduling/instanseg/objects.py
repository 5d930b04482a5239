"""From a model's labels to objects that can be outlined and measured: one piece each, without holes, numbered without gaps."""

from __future__ import annotations

import numpy as np

from scheduling.slides.nuclei.contours import Ints, Labels, fill_rings, first_pixels, largest_pieces


def whole_objects(nuclei: Labels, cells: Labels | None = None) -> tuple[Labels, Labels | None, int]:
    """(nuclei, cells, count): int32 (h, w) labels 1…count in raster order, a nucleus and its cell with the same number.

    Of every label its largest 4-connected piece is taken, of a cell the one that holds its nucleus, and what it encloses. What lies
    wholly inside another object is absorbed. A cell may have no nucleus; every nucleus has a cell, where cells are given.
    """
    nuclei = _solid(nuclei)
    if cells is None:
        order = _in_raster_order(nuclei, int(nuclei.max()))
        return order[nuclei], None, int(order.max())
    # A nucleus is a part of its cell, whatever else the cells say.
    cells = _solid(np.where(nuclei > 0, nuclei, cells).astype(np.int32), wanted=nuclei)
    nuclei = np.where(nuclei == cells, nuclei, 0).astype(np.int32)
    order = _in_raster_order(cells, int(cells.max()))
    return order[nuclei], order[cells], int(order.max())


def _solid(labels: Labels, wanted: Labels | None = None) -> Labels:
    """One piece of each label, with what it encloses, under its own number."""
    pieces, kept = largest_pieces(labels, None if wanted is None else (wanted == labels) & (labels > 0))
    if len(kept):
        fill_rings(pieces)
    return np.concatenate([np.zeros(1, np.int64), kept]).astype(np.int32)[pieces]


def _in_raster_order(labels: Labels, count: int) -> Labels:
    """int32 (count + 1,): for each label its number in the order of first pixels, 0 for one without a pixel."""
    first: Ints = first_pixels(labels, count)[0]
    present = np.flatnonzero(first >= 0)
    numbers = np.zeros(count + 1, np.int32)
    numbers[present[np.argsort(first[present])]] = np.arange(1, len(present) + 1)
    return numbers

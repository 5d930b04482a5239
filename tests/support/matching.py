"""How alike two segmentations are: objects that overlap enough, as F1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely


def f1_at(first: Sequence[shapely.Polygon], second: Sequence[shapely.Polygon], iou: float) -> float:
    """F1 of the pairs with at least this intersection over union, more than 0.5, so that an object is in one pair at most."""
    if iou <= 0.5:
        raise ValueError("below one half an object may have several partners")
    ours, theirs = (np.asarray(shapely.make_valid(list(shapes)), object) for shapes in (first, second))
    left, right = shapely.STRtree(theirs).query(ours)
    shared = shapely.area(shapely.intersection(ours[left], theirs[right]))
    united = shapely.area(ours[left]) + shapely.area(theirs[right]) - shared
    return float(2 * np.count_nonzero(shared >= iou * united) / (len(ours) + len(theirs)))

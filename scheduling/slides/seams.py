"""Which of the objects that two tiles both saw is kept, where their views may differ a little.

A tile also emits what lies in a guard band around its core. An object deep in its core is final; the others compete with those
of the neighbouring tiles, in one order for all, so that the outcome depends neither on the order of tiles nor on repetition.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import shapely

from scheduling.slides.cells import outlines_of
from scheduling.slides.measure import polygons
from scheduling.slides.tiling import GUARD_PX

#: Model pixels inside its core beyond which an object has no rival.
FINAL_PX = 2 * GUARD_PX
#: Part of the smaller object that two views of one cell share at least.
SHARED = 0.3


class Rival(NamedTuple):
    """An object that competes; rivals are compared as tuples, the first is kept."""

    negative_depth_px: float
    tile: int
    y_px: float
    x_px: float
    row: int


class Competing(NamedTuple):
    """The objects of one tile that compete, and their shapes."""

    rivals: list[Rival]
    shapes: npt.NDArray[np.object_]


def competing(cells: pa.Table, tile: int) -> Competing:
    """The objects of a tile that lie near an edge of its core. A ring that meets itself in a corner is taken apart."""
    depth, y, x = (np.asarray(cells[name]) for name in ("depth_px", "centroid_y_px", "centroid_x_px"))
    rows = np.flatnonzero(depth < FINAL_PX)
    rivals = [Rival(-float(depth[row]), tile, float(y[row]), float(x[row]), int(row)) for row in rows]
    return Competing(rivals, shapely.make_valid(polygons(outlines_of(cells.take(pa.array(rows))))))


def conflicts(ours: Competing, theirs: Competing) -> list[tuple[Rival, Rival]]:
    """Pairs of competing objects of two tiles that overlap too much for both to be kept."""
    left, right = shapely.STRtree(theirs.shapes).query(ours.shapes)
    one, other = ours.shapes[left], theirs.shapes[right]
    smaller = np.minimum(shapely.area(one), shapely.area(other))
    found = np.flatnonzero(shapely.area(shapely.intersection(one, other)) > SHARED * smaller)
    return [(ours.rivals[left[at]], theirs.rivals[right[at]]) for at in found]


def dropped(pairs: Iterable[tuple[Rival, Rival]]) -> dict[int, list[int]]:
    """Rows that are not kept, by tile; greedy in the order of the rivals. Holds only objects that are in conflict."""
    against: dict[Rival, set[Rival]] = defaultdict(set)
    for one, other in pairs:
        against[one].add(other)
        against[other].add(one)
    kept: set[Rival] = set()
    lost: dict[int, list[int]] = defaultdict(list)
    for rival in sorted(against):
        if against[rival].isdisjoint(kept):
            kept.add(rival)
        else:
            lost[rival.tile].append(rival.row)
    return {tile: sorted(lost[tile]) for tile in sorted(lost)}


def to_json(lost: dict[int, list[int]]) -> bytes:
    """The named part `seams` of a tile folder: the rows that are not kept, by tile."""
    return orjson.dumps({str(tile): rows for tile, rows in lost.items()})


def from_json(part: bytes) -> dict[int, list[int]]:
    """Inverse of to_json."""
    return {int(tile): rows for tile, rows in orjson.loads(part).items()}


def settled(cells: pa.Table, lost: Sequence[int]) -> pa.Table:
    """The cells of a tile that are in the result, from all that its file holds; `lost` are its rows that are not kept."""
    if not lost:
        return cells
    keep = np.ones(len(cells), np.bool_)
    keep[np.asarray(lost, np.int64)] = False
    return cells.filter(pa.array(keep))

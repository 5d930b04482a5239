"""Which of the objects that two tiles both saw is kept, where their views may differ a little.

A tile also emits what lies in a guard band around its core. An object deep in its core is final; the others compete with those
of the neighbouring tiles, in one order for all, so that the outcome depends neither on the order of tiles nor on repetition.
Where all views agree, a tile's own objects are kept and the guard band is not; only what differs from that is written down.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import shapely

from scheduling.slides.nuclei.cells import outlines_of
from scheduling.slides.nuclei.measure import polygons
from scheduling.slides.reading.tiling import GUARD_PX

#: Model pixels inside its core beyond which an object has no rival.
FINAL_PX = 2 * GUARD_PX
#: Part of the smaller object that two views of one cell share at least.
SHARED = 0.3


#: By tile, ascending, the rows for which the rule "own cells, and not the guard band" does not hold.
Exceptions = dict[int, list[int]]


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


def guards(competing: Competing) -> list[int]:
    """Rows of what competes that lie in the guard band: another tile's, if that sees them."""
    return [rival.row for rival in competing.rivals if rival.negative_depth_px > 0]


def exceptions(lost: Mapping[int, Sequence[int]], guarded: Mapping[int, Sequence[int]]) -> Exceptions:
    """What `settled_rows` has to know: a tile's own rows that are not kept, and rows of its guard band that are.

    `lost` are all rows that are not kept, `guarded` all rows of guard bands, by tile.
    """
    found = {tile: sorted({*guarded.get(tile, ())} ^ {*lost.get(tile, ())}) for tile in sorted({*lost, *guarded})}
    return {tile: rows for tile, rows in found.items() if rows}


def to_json(found: Exceptions) -> bytes:
    """The named part `settled` of a tile folder."""
    return orjson.dumps({str(tile): rows for tile, rows in found.items()})


def from_json(part: bytes) -> Exceptions:
    """Inverse of to_json."""
    return {int(tile): rows for tile, rows in orjson.loads(part).items()}


def settled_rows(cells: pa.Table, exceptions: Sequence[int] = ()) -> npt.NDArray[np.int64]:
    """Rows of a tile's table that are in the result, ascending: its own cells, and not the guard band, but for `exceptions`."""
    keep = np.asarray(cells["depth_px"]) >= 0
    at = np.asarray(exceptions, np.int64)
    keep[at] = ~keep[at]
    return np.flatnonzero(keep)

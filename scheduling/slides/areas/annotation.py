"""Areas that people give: a rectangle, or GeoJSON as QuPath exports it, read into one valid area in full-resolution pixels.

Nothing is repaired: what a crossing outline was meant to be only its author knows, so it is refused with the place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import shapely

from scheduling.errors import Invalid

Area = shapely.Polygon | shapely.MultiPolygon

#: Of an annotation. Of a job's region, which travels with every bundle of its tiles, and of all regions of a workflow.
MAX_DRAWN_VERTICES = 500_000
MAX_REGION_VERTICES = 5_000
MAX_REGIONS_VERTICES = 50_000
#: What QuPath writes; finer differences are noise that would make equal work look different.
_DECIMALS = 2
_FARTHEST_PX = 1e9
_RECTANGLE = ("x", "y", "width", "height")
_NOT_DRAWN = {"detection", "cell", "tile"}
_CUT_OUT = ("exclude", "ignore")
#: QuPath ignores classes whose name ends with *, but gives this one to areas of interest.
_REGION = "region*"


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What was drawn: everything included, less everything cut out."""

    area: Area
    #: Objects that make up the area.
    features: int
    #: How many of each class; "" counts those without.
    classes: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def read_area(data: Any, *, max_vertices: int) -> Area:
    """A rectangle {"x", "y", "width", "height"}, or polygons alone of whatever GeoJSON. Raises Invalid with the reason."""
    if isinstance(data, dict) and "type" not in data:
        return _rectangle(data)
    drawing = read_drawing(data, max_vertices=max_vertices)
    if drawing.warnings:
        raise Invalid(drawing.warnings[0])
    return drawing.area


def read_drawing(data: Any, *, max_vertices: int) -> Drawing:
    """A FeatureCollection, a list of features, one feature or one geometry. Raises Invalid with the reason.

    Classes whose names begin with Exclude or Ignore, or end with * (but for Region*), are cut out; all others, and objects
    without a class, are included. Points, lines, detections and tiles are left out with a warning.
    """
    kept: dict[bool, list[Area]] = {True: [], False: []}
    classes: Counter[str] = Counter()
    others, vertices = 0, 0
    for number, feature in enumerate(_features(data), start=1):
        if (geometry := _polygons_of(feature, number)) is None:
            others += 1
            continue
        vertices += _vertices(geometry, number)
        if vertices > max_vertices:
            raise Invalid(f"There are more than {max_vertices:,} vertices; simplify the outlines.")
        name = _class_of(feature)
        classes[name] += 1
        kept[not _is_cut_out(name)].append(_area(geometry, number))
    area = polygons_only(shapely.difference(shapely.union_all(kept[True]), shapely.union_all(kept[False])))
    if area.is_empty:
        raise Invalid("There is no area in it: no polygon, or all of it is cut out.")
    left_out = (f"{others} objects are no drawn areas (points, lines, detections) and were left out.",) if others else ()
    return Drawing(area=canonical(area), features=sum(classes.values()), classes=dict(sorted(classes.items())), warnings=left_out)


def on_slide(area: Area, width: int, height: int) -> tuple[Area, bool]:
    """The part on a slide of `width` x `height` pixels, and whether anything was cut off. Raises Invalid when nothing is on it."""
    slide = shapely.box(0, 0, width, height)
    if slide.covers(area):
        return area, False
    part = polygons_only(area.intersection(slide))
    if part.is_empty:
        raise Invalid(f"It lies outside the slide, which is {width} by {height} pixels.")
    return canonical(part), True


def polygons_only(shape: shapely.Geometry) -> Area:
    """The polygons among the parts of a geometry; touching borders leave lines and points behind."""
    parts = shapely.get_parts(shapely.get_parts(shape))
    found = [part for part in parts if part.geom_type == "Polygon" and part.area > 0]
    return found[0] if len(found) == 1 else shapely.MultiPolygon(found)


def canonical(area: Area) -> Area:
    """The same area with its parts, rings and vertices in one order, whatever it was drawn like."""
    return polygons_only(shapely.normalize(area))


def to_geojson(area: Area) -> dict[str, Any]:
    """A Polygon or MultiPolygon; equal areas in canonical form give equal JSON."""
    geometry: dict[str, Any] = orjson.loads(shapely.to_geojson(area))
    return geometry


def from_geojson(geometry: Mapping[str, Any]) -> Area:
    """Inverse of to_geojson; for what was checked before."""
    return polygons_only(shapely.from_geojson(orjson.dumps(geometry)))


def vertex_count(area: Area) -> int:
    """Vertices of all rings."""
    return int(shapely.get_num_coordinates(area))


def _rectangle(data: dict[str, Any]) -> Area:
    strangers = sorted(set(data) - set(_RECTANGLE))
    missing = [name for name in _RECTANGLE if name not in data]
    if strangers or missing:
        raise Invalid('Must be a rectangle {"x", "y", "width", "height"} in pixels of the slide, or GeoJSON with a "type".')
    values = [data[name] for name in _RECTANGLE]
    if any(isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _FARTHEST_PX for value in values):
        raise Invalid("x, y, width and height must be finite numbers.")
    x, y, width, height = (round(float(value), _DECIMALS) for value in values)
    if width <= 0 or height <= 0:
        raise Invalid("width and height must be more than 0.")
    return canonical(shapely.box(x, y, x + width, y + height))


def _features(data: Any) -> Iterator[dict[str, Any]]:
    kind = data.get("type") if isinstance(data, dict) else None
    if isinstance(data, dict) and kind not in {"FeatureCollection", "Feature", "Polygon", "MultiPolygon"}:
        raise Invalid(f"{str(kind)[:40]!r} is no FeatureCollection, Feature, Polygon or MultiPolygon.")
    found = data if isinstance(data, list) else data.get("features") if kind == "FeatureCollection" else [data]
    if not isinstance(found, list):
        raise Invalid("A FeatureCollection needs a list of features.")
    for number, feature in enumerate(found, start=1):
        if not isinstance(feature, dict):
            raise Invalid(f"Feature {number} is no object.")
        yield feature if feature.get("type") == "Feature" else {"geometry": feature}


def _polygons_of(feature: dict[str, Any], number: int) -> dict[str, Any] | None:
    """The polygonal geometry of a feature; None when it is another thing than a drawn area."""
    geometry, properties = feature.get("geometry"), feature.get("properties")
    if not isinstance(geometry, dict) or not isinstance(geometry.get("type"), str):
        raise Invalid(f"Feature {number} has no geometry.")
    is_drawn = not isinstance(properties, dict) or properties.get("objectType") not in _NOT_DRAWN
    return geometry if is_drawn and geometry["type"] in {"Polygon", "MultiPolygon"} else None


def _class_of(feature: dict[str, Any]) -> str:
    """The name of the object's class, of a derived one with its parents; "" when there is none."""
    properties = feature.get("properties")
    given = properties.get("classification") if isinstance(properties, dict) else None
    if isinstance(given, dict):
        names = given.get("names")
        given = ": ".join(map(str, names)) if isinstance(names, list) else given.get("name")
    return given[:100].replace("\0", "") if isinstance(given, str) else ""


def _is_cut_out(name: str) -> bool:
    last = name.rpartition(": ")[2].casefold()
    return last.startswith(_CUT_OUT) or (last.endswith("*") and last != _REGION)


def _polygons(geometry: dict[str, Any], number: int) -> list[list[Any]]:
    """Rings of each polygon. Raises Invalid."""
    coordinates = geometry.get("coordinates")
    polygons = coordinates if geometry["type"] == "MultiPolygon" else [coordinates]
    if not isinstance(polygons, list) or not polygons or not all(isinstance(rings, list) and rings for rings in polygons):
        raise Invalid(f"Feature {number} has no coordinates.")
    return polygons


def _vertices(geometry: dict[str, Any], number: int) -> int:
    return sum(len(ring) for rings in _polygons(geometry, number) for ring in rings if isinstance(ring, list))


def _area(geometry: dict[str, Any], number: int) -> Area:
    """The polygons of a feature, with their holes. Raises Invalid when an outline crosses itself or another."""
    made = [
        shapely.Polygon(rings[0], rings[1:])
        for rings in ([_ring(ring, number) for ring in polygon] for polygon in _polygons(geometry, number))
    ]
    area = made[0] if len(made) == 1 else shapely.MultiPolygon(made)
    if not area.is_valid:
        raise Invalid(f"Feature {number} is no valid area: {shapely.is_valid_reason(area)[:100]}.")
    return area


def _ring(ring: Any, number: int) -> npt.NDArray[np.float64]:
    """(vertices, 2), closed. Raises Invalid."""
    try:
        points = np.array(ring)
    except (ValueError, OverflowError, TypeError):
        points = np.empty(0)
    if points.dtype.kind not in "iuf" or points.ndim != 2 or points.shape[1] not in {2, 3} or len(points) < 3:
        raise Invalid(f"Feature {number} has a ring that is no list of at least 3 [x, y] positions.")
    xy = points[:, :2].astype(np.float64)
    if not (np.abs(xy) <= _FARTHEST_PX).all():
        raise Invalid(f"Feature {number} has coordinates that are not finite, or far outside every slide.")
    xy = np.round(xy, _DECIMALS)
    return xy if (xy[0] == xy[-1]).all() and len(xy) > 3 else np.concatenate([xy, xy[:1]])

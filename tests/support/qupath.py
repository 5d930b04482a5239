"""Reads GeoJSON as QuPath does, and fails where QuPath would refuse it, replace something silently or take an object for another kind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
import shapely

OBJECT_TYPES = {"detection", "cell", "annotation", "tile", "tmaCore", "root", "unknown"}
FEATURE_KEYS = {"type", "id", "geometry", "nucleusGeometry", "properties"}
PROPERTY_KEYS = {"objectType", "name", "color", "classification", "isLocked", "measurements", "metadata"}


class NotRead(AssertionError):
    """QuPath would not have read this as it is meant."""


@dataclass(frozen=True)
class PathObject:
    """What QuPath makes of a feature."""

    id: UUID
    kind: str
    roi: shapely.Polygon | shapely.MultiPolygon
    nucleus: shapely.Polygon | None
    classification: str | None
    measurements: dict[str, float]


def read_objects(data: bytes) -> list[PathObject]:
    """All objects of a FeatureCollection. Raises NotRead."""
    collection = orjson.loads(data)
    _need(collection.get("type") == "FeatureCollection" and isinstance(collection.get("features"), list), "no FeatureCollection")
    objects = [_object(feature) for feature in collection["features"]]
    _need(len({found.id for found in objects}) == len(objects), "two objects have one id: the second replaces the first")
    return objects


def _object(feature: dict[str, Any]) -> PathObject:
    _need(feature.get("type") == "Feature", "a member is no Feature")
    _need(set(feature) <= FEATURE_KEYS, f"keys beside properties are ignored: {set(feature) - FEATURE_KEYS}")
    properties = feature.get("properties")
    _need(isinstance(properties, dict) and set(properties) <= PROPERTY_KEYS, "properties that QuPath ignores")
    assert isinstance(properties, dict)
    kind = properties.get("objectType")
    _need(kind in OBJECT_TYPES, f"objectType {kind!r} becomes an annotation")
    nucleus = feature.get("nucleusGeometry")
    _need(nucleus is None or kind == "cell", "only cells have a nucleus")
    _color(properties, optional=True)
    return PathObject(
        id=_uuid(feature.get("id")),
        kind=str(kind),
        roi=_geometry(feature.get("geometry")),
        nucleus=None if nucleus is None else _geometry(nucleus),
        classification=_classification(properties.get("classification")),
        measurements=_measurements(properties.get("measurements", {})),
    )


def _uuid(text: Any) -> UUID:
    """QuPath replaces what is none by a random one."""
    _need(isinstance(text, str), "no id")
    try:
        found = UUID(text)
    except ValueError as error:
        raise NotRead(f"{text!r} is no UUID") from error
    _need(str(found) == text, f"{text!r} is not written as Java writes UUIDs")
    return found


def _geometry(geometry: Any) -> Any:
    _need(isinstance(geometry, dict) and set(geometry) <= {"type", "coordinates", "plane", "isEllipse"}, "geometry with other keys")
    _need(geometry["type"] in {"Polygon", "MultiPolygon"}, f"{geometry['type']} is no area")
    parts = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    _need(geometry["type"] == "Polygon" or len(parts) > 1, "a MultiPolygon of one part")
    shapes = [_polygon(part) for part in parts]
    return shapes[0] if len(shapes) == 1 else shapely.MultiPolygon(shapes)


def _polygon(rings: Any) -> shapely.Polygon:
    _need(bool(rings), "a polygon without a ring")
    for ring in rings:
        _need(len(ring) >= 4 and ring[0] == ring[-1], "a ring that is not closed")
        _need(all(len(place) == 2 and all(map(_is_number, place)) for place in ring), "a place that is no pair of finite numbers")
    polygon = shapely.Polygon(rings[0], rings[1:])
    _need(polygon.is_valid and polygon.area > 0, "a polygon that is not valid")
    return polygon


def _classification(given: Any) -> str | None:
    if given is None or isinstance(given, str):
        return given
    _need(isinstance(given, dict) and ("name" in given or "names" in given), "a classification without a name")
    _need("color" in given, "a classification object without a colour stops the import")
    _color(given, optional=False)
    return str(given.get("name") or ": ".join(given["names"]))


def _color(holder: dict[str, Any], *, optional: bool) -> None:
    color = holder.get("color")
    if color is None and optional:
        return
    is_color = isinstance(color, list) and len(color) == 3 and all(isinstance(part, int) and 0 <= part <= 255 for part in color)
    _need(is_color, f"{color!r} is no colour")


def _measurements(given: Any) -> dict[str, float]:
    _need(isinstance(given, dict), "measurements that are no object are those of QuPath before 0.4")
    _need(all(isinstance(name, str) and _is_number(value) for name, value in given.items()), "a measurement that is no finite number")
    return {name: float(value) for name, value in given.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _need(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise NotRead(otherwise)

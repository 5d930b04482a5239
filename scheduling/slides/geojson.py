"""GeoJSON as QuPath reads it, written chunk by chunk: a whole slide's features are never held at once.

QuPath's rules: `objectType` inside `properties`, a classification with name and colour, ids that are UUIDs, closed rings
in full-resolution pixels, Polygon rather than a MultiPolygon of one part, only finite numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID, uuid5

import orjson
import pyarrow as pa
import shapely

from scheduling.slides.cells import rings_of
from scheduling.slides.tissue_outlines import perimeter_px

HEAD = b'{"type":"FeatureCollection","features":[\n'
TAIL = b"\n]}\n"
SEPARATOR = b",\n"

NUCLEUS = {"name": "Nucleus", "color": [200, 0, 0]}
TISSUE = {"name": "Tissue", "color": [0, 150, 0]}
#: Names of QuPath's own nucleus measurements, so that its scripts find them.
_MEASUREMENTS = {
    "area_um2": "Nucleus: Area µm^2",
    "perimeter_um": "Nucleus: Perimeter µm",
    "circularity": "Nucleus: Circularity",
    "solidity": "Nucleus: Solidity",
    "major_axis_um": "Nucleus: Max diameter µm",
    "minor_axis_um": "Nucleus: Min diameter µm",
    **{
        f"{stain}_od_{figure}": f"Nucleus: {stain.title()} OD {name}"
        for stain in ("hematoxylin", "eosin")
        for figure, name in (("mean", "mean"), ("sum", "sum"), ("sd", "std dev"), ("max", "max"), ("min", "min"))
    },
}
_NAMESPACE = UUID("6a5b0f0e-52a5-5c0b-9d65-0d6f2b7d2a41")


def cell_features(cells: pa.Table, fingerprint: str) -> bytes:
    """The cells as detections, separated but without the collection around them; empty for no cells.

    A cell's id follows from the slide and the first pixel of its outline, which no other cell has: it is the same
    whatever the tiles were.
    """
    columns = [cells[name].to_pylist() for name in _MEASUREMENTS]
    measurements = [dict(zip(_MEASUREMENTS.values(), row, strict=True)) for row in zip(*columns, strict=True)]
    features = (
        {
            "type": "Feature",
            "id": str(uuid5(_NAMESPACE, f"{fingerprint}/{ring[0, 0]},{ring[0, 1]}")),
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"objectType": "detection", "classification": NUCLEUS, "measurements": _finite(values)},
        }
        for ring, values in zip(rings_of(cells), measurements, strict=True)
    )
    return SEPARATOR.join(orjson.dumps(feature, option=orjson.OPT_SERIALIZE_NUMPY) for feature in features)


def result_entries(cells: pa.Table, first_id: int) -> bytes:
    """The cells as entries of results.json, numbered from `first_id`; rings open, separated, without the list around them."""
    entries = (
        {"id": number, "polygon": ring[:-1], "type": "cell"}
        for number, ring in enumerate((ring.copy() for ring in rings_of(cells)), start=first_id)
    )
    return SEPARATOR.join(orjson.dumps(entry, option=orjson.OPT_SERIALIZE_NUMPY) for entry in entries)


def tissue_collection(polygons: Sequence[shapely.Polygon], fingerprint: str, mpp: float, downsample: int | None = None) -> bytes:
    """A FeatureCollection of annotations of class Tissue, numbered in the order given, with their area in mm².

    With the `downsample` of the mask they follow, also with their perimeter, which needs the size of the stairs.
    """
    return HEAD + SEPARATOR.join(_tissue_features(polygons, fingerprint, mpp, downsample)) + TAIL


def _tissue_features(polygons: Sequence[shapely.Polygon], fingerprint: str, mpp: float, downsample: int | None) -> Iterator[bytes]:
    for number, polygon in enumerate(polygons, start=1):
        x, y = polygon.exterior.coords[0]
        rings = [polygon.exterior, *polygon.interiors]
        perimeter = {"Perimeter µm": round(perimeter_px(polygon, downsample) * mpp, 2)} if downsample else {}
        feature = {
            "type": "Feature",
            "id": str(uuid5(_NAMESPACE, f"{fingerprint}/tissue/{x:.0f},{y:.0f}")),
            "geometry": {"type": "Polygon", "coordinates": [[[round(u), round(v)] for u, v in ring.coords] for ring in rings]},
            "properties": {
                "objectType": "annotation",
                "name": f"Tissue {number}",
                "classification": TISSUE,
                "isLocked": True,
                "measurements": {"Area mm^2": round(polygon.area * (mpp / 1000) ** 2, 6), **perimeter},
            },
        }
        yield orjson.dumps(feature)


def _finite(values: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if math.isfinite(value)}

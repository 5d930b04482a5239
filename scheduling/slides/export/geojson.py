"""GeoJSON as QuPath reads it, written chunk by chunk: a whole slide's features are never held at once.

QuPath's rules: `objectType` inside `properties`, a classification with name and colour, ids that are UUIDs, closed rings
in full-resolution pixels, Polygon rather than a MultiPolygon of one part, only finite numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from uuid import UUID, uuid5

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import shapely

from scheduling.slides.export.json_bytes import feature_bytes, numbered_rings
from scheduling.slides.nuclei.cell_table import AREA_RATIO, CELLS, NUCLEI, STAINS, CellTable, kind_of
from scheduling.slides.nuclei.cells import outlines_of
from scheduling.slides.nuclei.contours import Outlines
from scheduling.slides.tissue.outlines import perimeter_px

HEAD = b'{"type":"FeatureCollection","features":[\n'
TAIL = b"\n]}\n"
SEPARATOR = b",\n"

TISSUE = {"name": "Tissue", "color": [0, 150, 0]}
#: Names of QuPath's own measurements, so that its scripts find them: of shape, and of each stain.
_SHAPE = {
    "area_um2": "Area µm^2",
    "perimeter_um": "Perimeter µm",
    "circularity": "Circularity",
    "solidity": "Solidity",
    "major_axis_um": "Max diameter µm",
    "minor_axis_um": "Min diameter µm",
}
_FIGURES = {"mean": "mean", "sum": "sum", "sd": "std dev", "max": "max", "min": "min"}
_DENSITIES = {f"{stain}_od_{figure}": f"{stain.title()} OD {name}" for stain in STAINS for figure, name in _FIGURES.items()}
_NUCLEUS = {column: f"Nucleus: {name}" for column, name in (_SHAPE | _DENSITIES).items()}
_CELL = {
    **{f"cell_{column}": f"Cell: {name}" for column, name in _SHAPE.items()},
    **{f"cytoplasm_{column}": f"Cytoplasm: {name}" for column, name in _DENSITIES.items()},
    AREA_RATIO: "Nucleus/Cell area ratio",
}
_MEASUREMENTS = {NUCLEI: _NUCLEUS, CELLS: _NUCLEUS | _CELL}
_NAMESPACE = UUID("6a5b0f0e-52a5-5c0b-9d65-0d6f2b7d2a41")


def cell_features(cells: pa.Table, fingerprint: str) -> bytes:
    """The cells as detections, or whole ones as cells, separated but without the collection around them; empty for no cells.

    A cell's id follows from the slide and the first pixel of its outline, which no other cell has: it is the same
    whatever the tiles were. What was not measured, or is not finite, is left out.
    """
    kind, outline = kind_of(cells), outlines_of(cells)
    names = _MEASUREMENTS[kind]
    values = np.column_stack([np.asarray(cells[column], np.float64) for column in names])
    nucleus = outlines_of(cells, "nucleus_polygon") if kind is CELLS else _none(len(cells))
    keys = [orjson.dumps(name) + b":" for name in names.values()]
    return feature_bytes(_ids(fingerprint, outline), outline, nucleus, values, keys, _texts(kind))


def _texts(kind: CellTable) -> list[bytes]:
    """What stands between the parts of a feature."""
    classification = orjson.dumps({"name": kind.class_name, "color": kind.color}).decode()
    return [
        b'{"type":"Feature","id":"',
        b'","geometry":{"type":"Polygon","coordinates":[',
        b']},"nucleusGeometry":{"type":"Polygon","coordinates":[',
        b"",
        f']}},"properties":{{"objectType":"{kind.object_type}","classification":{classification},"measurements":{{'.encode(),
        b"}}}",
        SEPARATOR,
    ]


def _ids(fingerprint: str, outline: Outlines) -> npt.NDArray[np.uint8]:
    """uint8 (n, 36): UUIDs of version 5 (RFC 9562) of the first vertices, as uuid.uuid5 makes them, but many at a time."""
    prefix = _NAMESPACE.bytes + f"{fingerprint}/".encode()
    named = b"%d,%d" if not outline.decimals else b"%de-2,%de-2"
    names = (named % (x, y) for x, y in outline.points[outline.offsets[:-1]].tolist())
    hashed = b"".join(hashlib.sha1(prefix + name, usedforsecurity=False).digest()[:16] for name in names)
    raw = np.frombuffer(bytearray(hashed), np.uint8).reshape(-1, 16)
    raw[:, 6] = raw[:, 6] & 0x0F | 0x50
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)[np.stack([raw >> 4, raw & 15], axis=2).reshape(-1, 32)]
    return np.insert(digits, [8, 12, 16, 20], ord("-"), axis=1)


def _none(count: int) -> Outlines:
    """So many rings without a vertex."""
    return Outlines(np.zeros((0, 2), np.int32), np.zeros(count + 1, np.int64))


def result_entries(cells: pa.Table, first_id: int) -> bytes:
    """The cells as entries of results.json, numbered from `first_id`; rings open, separated, without the list around them."""
    return numbered_rings(first_id, outlines_of(cells), [b'{"id":', b',"polygon":', b',"type":"cell"}', SEPARATOR])


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

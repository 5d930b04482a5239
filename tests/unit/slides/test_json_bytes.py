"""The kernel writes what orjson writes, whatever the numbers are."""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scheduling.slides.export import geojson
from scheduling.slides.export.json_bytes import feature_bytes, numbered_rings
from scheduling.slides.nuclei.cell_table import CELLS, NUCLEI
from scheduling.slides.nuclei.contours import Outlines
from tests.support.cells import made_cells, made_layout, shapes
from tests.support.qupath import NotRead, read_objects

NAMES = [b'"a \xc2\xb5m^2":', b'"b":', b'"c":']
TEXTS = [b'{"id":"', b'","ring":[', b'],"nucleus":[', b"", b'],"values":{', b"}}", b",\n"]

places = st.integers(-(2**31), 2**31 - 1)
rings = st.lists(st.tuples(places, places), min_size=1, max_size=8)
decimals = st.integers(-(10**12), 10**12).map(lambda steps: steps / 10_000)
measured = st.tuples(*[decimals | st.sampled_from([float("nan"), float("inf"), -0.0, 0.0, 0.0001, -0.1])] * 3)
features = st.lists(st.tuples(rings, rings | st.just([]), measured), max_size=6)


def outlines(found: list[Any]) -> Outlines:
    offsets = np.cumsum([0, *map(len, found)]).astype(np.int64)
    return Outlines(np.array([place for ring in found for place in ring], np.int32).reshape(-1, 2), offsets)


def by_orjson(identifier: str, ring: Any, nucleus: Any, values: tuple[float, ...]) -> bytes:
    named = {name.decode()[1:-2]: value for name, value in zip(NAMES, values, strict=True) if np.isfinite(value)}
    inner = {"nucleus": [nucleus]} if nucleus else {}
    return orjson.dumps({"id": identifier, "ring": [ring], **inner, "values": named})


@settings(deadline=None)
@given(features)
@example([([(0, 0)], [], (0.0001, 123456789.1234, -0.0001))])
def test_features_are_those_that_orjson_writes(found: list[Any]) -> None:
    identifiers = [str(uuid5(NAMESPACE_URL, str(number))) for number in range(len(found))]
    ids = np.array([list(text.encode()) for text in identifiers], np.uint8).reshape(-1, 36)
    columns = ([row[part] for row in found] for part in range(3))
    outer, inner, values = columns
    written = feature_bytes(ids, outlines(outer), outlines(inner), np.array(values, np.float64).reshape(-1, 3), NAMES, TEXTS)
    assert written == b",\n".join(by_orjson(*row) for row in zip(identifiers, outer, inner, values, strict=True))


@settings(deadline=None)
@given(st.lists(rings, max_size=6), st.integers(1, 10**9))
def test_numbered_rings_are_open_and_those_that_orjson_writes(found: list[Any], first: int) -> None:
    written = numbered_rings(first, outlines(found), [b'{"id":', b',"polygon":', b"}", b","])
    assert orjson.loads(b"[" + written + b"]") == [
        {"id": first + number, "polygon": [list(place) for place in ring[:-1]]} for number, ring in enumerate(found)
    ]


def test_identifiers_are_uuids_of_version_5_of_slide_and_first_vertex() -> None:
    cells = made_cells(made_layout(tiles=1), 0, 30)
    found = read_objects(geojson.HEAD + geojson.cell_features(cells, "print") + geojson.TAIL)
    firsts = [polygon[:2] for polygon in cells["polygon"].to_pylist()]
    assert [one.id for one in found] == [uuid5(geojson._NAMESPACE, f"print/{x},{y}") for x, y in firsts]


@pytest.mark.parametrize("kind", [NUCLEI, CELLS])
def test_no_cells_are_no_bytes(kind: Any) -> None:
    assert geojson.cell_features(kind.schema.empty_table(), "print") == b""
    assert geojson.result_entries(kind.schema.empty_table(), 1) == b""


def test_only_whole_cells_have_a_nucleus_and_what_is_not_measured_is_left_out() -> None:
    ring = (shapes()[0] + 100).reshape(-1).astype(np.int32).tolist()
    row: dict[str, Any] = {"depth_px": 1.0, **dict.fromkeys(CELLS.measures, 2.5), "polygon": ring, "nucleus_polygon": ring}
    bare = row | {"nucleus_polygon": None, "area_um2": None, "solidity": float("nan"), "polygon": (np.array(ring) + 40).tolist()}
    cells = pa.Table.from_pylist([row, bare], schema=CELLS.schema)
    one, other = read_objects(geojson.HEAD + geojson.cell_features(cells, "print") + geojson.TAIL)
    assert one.nucleus is not None
    assert one.nucleus.equals(one.roi)
    assert other.nucleus is None
    assert set(one.measurements) - set(other.measurements) == {"Nucleus: Area µm^2", "Nucleus: Solidity"}
    assert len(one.measurements) == len(CELLS.measures) - 2
    assert {one.kind, other.kind} == {"cell"}


FEATURE: dict[str, Any] = {
    "type": "Feature",
    "id": "6a5b0f0e-52a5-5c0b-9d65-0d6f2b7d2a41",
    "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 4], [0, 0]]]},
    "properties": {"objectType": "detection", "classification": {"name": "Nucleus", "color": [200, 0, 0]}, "measurements": {"a": 1.5}},
}


@pytest.mark.parametrize(
    "change",
    [
        {"id": "object_7"},
        {"object_type": "detection"},
        {"nucleusGeometry": FEATURE["geometry"]},
        {"geometry": {"type": "MultiPolygon", "coordinates": [FEATURE["geometry"]["coordinates"]]}},
        {"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 4], [0, 4]]]}},
        {"properties": {"classification": "Nucleus"}},
        {"properties": {"objectType": "detection", "classification": {"name": "Nucleus"}}},
        {"properties": {"objectType": "detection", "measurements": [{"name": "a", "value": 1}]}},
        {"properties": {"objectType": "detection", "measurements": {"a": "NaN"}}},
    ],
)
def test_the_reader_of_these_tests_refuses_what_qupath_does_not_read_as_meant(change: dict[str, Any]) -> None:
    collection: dict[str, Any] = {"type": "FeatureCollection", "features": [FEATURE]}
    assert len(read_objects(orjson.dumps(collection))) == 1
    with pytest.raises(NotRead):
        read_objects(orjson.dumps(collection | {"features": [FEATURE | change]}))

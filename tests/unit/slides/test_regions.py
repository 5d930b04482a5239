"""Areas against brute force: which points lie in them, how much of which pixel, and what is refused as no area."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.errors import Invalid
from scheduling.slides.areas.annotation import (
    Area,
    canonical,
    from_geojson,
    on_slide,
    polygons_only,
    read_area,
    read_drawing,
    to_geojson,
    vertex_count,
)
from scheduling.slides.areas.regions import Region, rasterised

#: The first call compiles.
LEISURELY = settings(deadline=None)
SIDE = 96
SQUARE = [[10, 10], [50, 10], [50, 40], [10, 40], [10, 10]]
numbers = st.integers(0, SIDE * 4).map(lambda n: n / 4)
boxes = st.tuples(numbers, numbers, numbers, numbers).map(
    lambda b: shapely.box(min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)
triangles = st.lists(st.tuples(numbers, numbers), min_size=3, max_size=3).map(shapely.Polygon)
pieces = (boxes | triangles).filter(lambda piece: piece.is_valid and piece.area > 0)


@st.composite
def areas(draw: st.DrawFn) -> Area:
    """Several pieces less some others: parts, holes, slopes, and borders on whole pixels."""
    kept, cut = draw(st.lists(pieces, min_size=1, max_size=4)), draw(st.lists(pieces, max_size=3))
    made = polygons_only(shapely.difference(shapely.union_all(kept), shapely.union_all(cut)))
    return canonical(made) if not made.is_empty else canonical(kept[0])


def holds_exactly(area: Area, x: float, y: float) -> bool:
    """The same rule in fractions: an odd number of edges that fall past y are crossed strictly on the right."""
    odd = False
    for ring in shapely.get_rings(shapely.get_parts(area)):
        points = [(Fraction(u), Fraction(v)) for u, v in ring.coords]
        for a, b in itertools.pairwise(points):
            (x0, y0), (x1, y1) = (a, b) if a[1] <= b[1] else (b, a)
            if y0 <= Fraction(y) < y1 and Fraction(x) < x0 + (Fraction(y) - y0) / (y1 - y0) * (x1 - x0):
                odd = not odd
    return odd


@LEISURELY
@given(area=areas(), points=st.lists(st.tuples(numbers, numbers), min_size=1, max_size=30))
def test_a_point_lies_in_an_area_when_counting_crossings_in_fractions_says_so(area: Area, points: list[tuple[float, float]]) -> None:
    xs, ys = np.array(points, np.float64).T
    clear = np.array([shapely.distance(area.boundary, shapely.Point(point)) > 1e-9 or _on_straight_edge(area, point) for point in points])
    expected = np.array([holds_exactly(area, x, y) for x, y in points])
    found = Region(area=area).holds(xs, ys)
    assert (found == expected)[clear].all()


def _on_straight_edge(area: Area, point: tuple[float, float]) -> bool:
    """Whether every edge near the point is level or upright, so that its crossing is computed without rounding."""
    edges = Region(area=area).edges
    lines = shapely.linestrings(edges.reshape(-1, 2, 2))
    near = edges[shapely.distance(lines, shapely.Point(point)) <= 1e-9]
    return bool(((near[:, 0] == near[:, 2]) | (near[:, 1] == near[:, 3])).all()) and all(float(v * 4).is_integer() for v in near.ravel())


@LEISURELY
@given(cuts=st.lists(numbers, min_size=1, max_size=5), points=st.lists(st.tuples(numbers, numbers), min_size=1, max_size=30))
def test_areas_that_share_borders_share_no_point_and_lose_none(cuts: list[float], points: list[tuple[float, float]]) -> None:
    borders = sorted({0.0, float(SIDE), *cuts})
    strips = [Region(area=shapely.box(a, 0, b, SIDE)) for a, b in itertools.pairwise(borders)]
    xs, ys = np.array(points, np.float64).T
    owners = np.sum([strip.holds(xs, ys) for strip in strips], axis=0)
    assert (owners == ((xs < SIDE) & (ys < SIDE))).all()


@LEISURELY
@given(area=areas(), downsample=st.sampled_from([4, 8, 17.5, 200]))
def test_coverage_is_the_part_of_each_pixel_that_is_inside(area: Area, downsample: float) -> None:
    side = math.ceil(SIDE / downsample)
    corners = np.arange(side) * downsample
    x, y = np.meshgrid(corners, corners)
    expected = shapely.area(shapely.intersection(shapely.box(x, y, x + downsample, y + downsample), area)) / downsample**2
    region = Region(area=area)
    assert np.abs(region.coverage(side, side, downsample) - expected).max() < 1e-5
    assert (rasterised(region, side, side, downsample) > 0)[expected > 1e-9].all()


@LEISURELY
@given(area=areas(), points=st.lists(st.tuples(numbers, numbers), min_size=1, max_size=30), downsample=st.sampled_from([1, 3, 8, 17.5]))
def test_no_point_that_an_area_holds_lies_on_a_pixel_that_it_does_not_touch(
    area: Area, points: list[tuple[float, float]], downsample: float
) -> None:
    xs, ys = np.array(points, np.float64).T
    side = math.ceil(SIDE / downsample)
    touched = rasterised(Region(area=area), side, side, downsample)
    held = Region(area=area).holds(xs, ys)
    column, row = (np.minimum((v // downsample).astype(int), side - 1) for v in (xs, ys))
    assert (touched[row, column] > 0)[held].all()


@LEISURELY
@given(area=areas())
def test_an_area_survives_the_way_through_json_to_the_byte(area: Area) -> None:
    again = from_geojson(to_geojson(area))
    assert to_geojson(canonical(again)) == to_geojson(area)
    assert again.equals(area)


@pytest.mark.parametrize(
    "data",
    [
        {"x": 10, "y": 10, "width": 40, "height": 30},
        {"type": "Polygon", "coordinates": [SQUARE]},
        {"type": "Polygon", "coordinates": [SQUARE[2:-1] + SQUARE[:3]]},
        {"type": "Polygon", "coordinates": [[[x, y, 0] for x, y in reversed(SQUARE)]]},
        {"type": "MultiPolygon", "coordinates": [[SQUARE]]},
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [SQUARE]}, "properties": {"objectType": "annotation"}},
        {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [SQUARE]}}]},
        [{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [SQUARE]}, "properties": None}],
    ],
)
def test_the_same_area_has_one_form_however_it_is_written(data: Any) -> None:
    assert to_geojson(read_area(data, max_vertices=100)) == to_geojson(canonical(shapely.box(10, 10, 50, 40)))


BOW = [[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "needs a list|no FeatureCollection|no object|list"),
        ("x", "list|no"),
        ({}, "rectangle"),
        ({"x": 1, "y": 1, "width": 5}, "rectangle"),
        ({"x": 1, "y": 1, "width": 5, "height": 5, "depth": 1}, "rectangle"),
        ({"x": 1, "y": 1, "width": 0, "height": 5}, "more than 0"),
        ({"x": 1, "y": 1, "width": True, "height": 5}, "finite"),
        ({"x": 1, "y": 1, "width": float("inf"), "height": 5}, "finite"),
        ({"x": 1, "y": float("nan"), "width": 5, "height": 5}, "finite"),
        ({"type": "Point", "coordinates": [1, 2]}, "'Point' is no"),
        ({"type": 7}, "'7' is no"),
        ({"type": "FeatureCollection"}, "list of features"),
        ({"type": "FeatureCollection", "features": []}, "no area"),
        ({"type": "FeatureCollection", "features": [3]}, "Feature 1 is no object"),
        ({"type": "FeatureCollection", "features": [{"type": "Feature"}]}, "Feature 1 has no geometry"),
        ({"type": "Polygon", "coordinates": []}, "no coordinates"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}, "at least 3"),
        ({"type": "Polygon", "coordinates": [[["0", "0"], ["5", "0"], ["5", "5"]]]}, "at least 3"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [5, 0], [5]]]}, "at least 3"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [5, 0], [1e300, 5]]]}, "not finite, or far"),
        ({"type": "Polygon", "coordinates": [BOW]}, "Self-intersection"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [5, 5], [9, 9]]]}, "no valid area|no area"),
        ({"type": "MultiPolygon", "coordinates": [[SQUARE], [SQUARE]]}, "no valid area"),
        ({"type": "Polygon", "coordinates": [[[math.cos(t), math.sin(t)] for t in range(200)]]}, "more than 100 vertices"),
        ([{"type": "Feature", "geometry": {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}}], "no area"),
    ],
)
def test_what_is_no_area_is_refused_with_the_reason(data: Any, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        read_area(data, max_vertices=100)


def drawn(ring: list[list[float]], name: Any = None, **properties: Any) -> dict[str, Any]:
    """A feature as QuPath writes it."""
    given = {} if name is None else {"classification": name if isinstance(name, dict) else {"name": name, "color": [1, 2, 3]}}
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation", **given, **properties},
    }


def box(x: float, y: float, side: float) -> list[list[float]]:
    """A closed square."""
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


@pytest.mark.parametrize("name", ["Exclude", "exclude me", "Ignore*", "Necrosis*", {"name": "IGNORE"}, {"names": ["Tumor", "Ignore*"]}])
def test_classes_that_say_so_are_cut_out_of_what_is_drawn(name: Any) -> None:
    drawing = read_drawing([drawn(box(0, 0, 10), "Tissue"), drawn(box(2, 2, 4), name)], max_vertices=100)
    assert drawing.area.area == 100 - 16
    assert drawing.features == 2


@pytest.mark.parametrize("name", [None, "Tissue", "Region*", "Tumor", "Not ignored", 7])
def test_all_other_classes_are_included_and_counted(name: Any) -> None:
    drawing = read_drawing({"type": "FeatureCollection", "features": [drawn(box(0, 0, 10)), drawn(box(8, 0, 10), name)]}, max_vertices=100)
    assert drawing.area.area == 180
    assert sum(drawing.classes.values()) == 2


def test_what_is_no_drawn_area_is_left_out_and_said() -> None:
    point = {"type": "Feature", "geometry": {"type": "MultiPoint", "coordinates": [[0, 0]]}, "properties": {"objectType": "annotation"}}
    cell = drawn(box(50, 50, 5), objectType="detection")
    drawing = read_drawing([drawn(box(0, 0, 10)), point, cell], max_vertices=100)
    assert (drawing.area.area, drawing.features) == (100, 1)
    assert "2 objects are no drawn areas" in drawing.warnings[0]


def test_the_part_outside_the_slide_is_cut_off_and_nothing_on_it_is_refused() -> None:
    area, is_cut = on_slide(shapely.box(-10, -10, 20, 20), 100, 80)
    assert (area.bounds, is_cut) == ((0, 0, 20, 20), True)
    assert on_slide(shapely.box(0, 0, 100, 80), 100, 80)[1] is False
    with pytest.raises(Invalid, match="outside the slide, which is 100 by 80"):
        on_slide(shapely.box(100, 0, 120, 20), 100, 80)


def test_an_area_beyond_the_pixels_covers_none_of_them() -> None:
    for area in (shapely.box(50, 50, 60, 60), shapely.MultiPolygon()):
        assert not Region(area=area).coverage(4, 4, 8.0).any()
        assert not rasterised(Region(area=area), 4, 4, 8.0).any()
        assert not Region(area=area).holds(np.array([5.0]), np.array([5.0])).any()


def test_a_ring_in_a_hole_counts_its_vertices() -> None:
    area = read_area({"type": "Polygon", "coordinates": [box(0, 0, 10), box(2, 2, 4)]}, max_vertices=10)
    assert (vertex_count(area), area.area) == (10, 84)

"""The outlines are the mask, to the pixel, and valid whatever the mask looks like."""

from __future__ import annotations

import cv2
import numpy as np
import orjson
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.slides.export.geojson import tissue_collection
from scheduling.slides.tissue.mask import TissueMask, joined
from scheduling.slides.tissue.outlines import overlay, perimeter_px
from tests.unit.slides import overviews as o


def of_mask(mask: np.ndarray) -> TissueMask:
    return TissueMask(mask=mask, removed=np.zeros_like(mask), downsample=16, mpp=0.5, threshold=20, separability=1, warnings=())


def drawn(polygons: list[shapely.Polygon], height: int, width: int) -> np.ndarray:
    """uint8 (height, width): the pixels whose middle lies in a polygon."""
    rows, columns = np.mgrid[0:height, 0:width]
    middles = shapely.points(columns * 16 + 8, rows * 16 + 8)
    return np.asarray(np.any([shapely.contains(polygon, middles) for polygon in polygons], axis=0) * 255, np.uint8)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), height=st.integers(1, 24), width=st.integers(1, 24), part=st.floats(0.05, 0.95))
def test_outlines_of_any_mask_are_valid_and_cover_exactly_its_pixels(seed: int, height: int, width: int, part: float) -> None:
    random = np.random.default_rng(seed)
    found = of_mask(joined(np.asarray((random.random((height, width)) < part) * 255, np.uint8)))
    polygons = o.outlined(found, width * 16, height * 16)
    assert all(polygon.is_valid and polygon.geom_type == "Polygon" for polygon in polygons)
    assert [p.area for p in polygons] == sorted((p.area for p in polygons), reverse=True)
    assert np.array_equal(drawn(polygons, height, width), found.mask) if polygons else not found.mask.any()
    assert sum(polygon.area for polygon in polygons) == np.count_nonzero(found.mask) * 256


@given(seed=st.integers(0, 10**6), part=st.floats(0.05, 0.95))
def test_joining_adds_and_never_takes_and_has_no_handedness(seed: int, part: float) -> None:
    mask = np.asarray((np.random.default_rng(seed).random((15, 17)) < part) * 255, np.uint8)
    done = joined(mask)
    assert (done >= mask).all()
    assert np.array_equal(joined(done), done)
    assert np.array_equal(joined(mask[:, ::-1]), done[:, ::-1])


def test_pieces_that_touch_by_a_corner_are_one_with_the_gap_filled() -> None:
    (polygon,) = o.outlined(of_mask(np.diag([255, 255]).astype(np.uint8)), 32, 32)
    assert polygon.area == 32 * 32


def test_pieces_within_holes_are_pieces_of_their_own() -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[2:38, 2:38] = 255
    mask[6:34, 6:34] = 0
    mask[12:28, 12:28] = 255
    mask[18:22, 18:22] = 0
    assert [len(polygon.interiors) for polygon in o.outlined(of_mask(mask), 640, 640)] == [1, 1]


def test_the_outline_ends_where_the_slide_ends() -> None:
    (polygon,) = o.outlined(of_mask(np.full((3, 4), 255, np.uint8)), 55, 41)
    assert polygon.bounds == (0, 0, 55, 41)


def test_the_perimeter_of_a_round_piece_with_a_round_hole_is_that_of_circles() -> None:
    mask = (o.ellipse(300, 300, 150, 150, 120, 120) & ~o.ellipse(300, 300, 150, 150, 50, 50)).astype(np.uint8) * 255
    (polygon,) = o.outlined(of_mask(joined(mask)), 4800, 4800)
    assert perimeter_px(polygon, 16) == pytest.approx(2 * np.pi * 170 * 16, rel=0.02)


def test_the_perimeter_of_a_clipped_piece_counts_the_cut_as_it_is() -> None:
    mask = o.ellipse(300, 300, 150, 150, 120, 120).astype(np.uint8) * 255
    (polygon,) = o.outlined(of_mask(joined(mask)), 4800, 4800)
    half = polygon.intersection(shapely.Polygon([(0, 0), (4800, 4800), (0, 4800)]))
    assert perimeter_px(half, 16) == pytest.approx((np.pi + 2) * 120 * 16, rel=0.02)


def test_features_are_locked_annotations_of_class_tissue_with_area_and_perimeter() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[5:15, 5:15] = 255
    collection = orjson.loads(tissue_collection(o.outlined(of_mask(mask), 320, 320), "f", 0.5, 16))
    (feature,) = collection["features"]
    assert feature["geometry"]["type"] == "Polygon"
    assert feature["properties"]["classification"] == {"name": "Tissue", "color": [0, 150, 0]}
    assert feature["properties"]["measurements"]["Area mm^2"] == pytest.approx(0.0064)
    assert feature["properties"]["measurements"]["Perimeter µm"] == pytest.approx(4 * 80, rel=0.1)


@pytest.mark.parametrize("shape", [(3, 4), (93, 87), (400, 1000), (900, 3000)])
def test_the_overlay_has_a_size_for_the_eye_and_shows_both_outlines(shape: tuple[int, int]) -> None:
    mask, removed = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    mask[:, : shape[1] // 3] = 255
    removed[:, -(shape[1] // 3) :] = 255
    found = TissueMask(mask=mask, removed=removed, downsample=16, mpp=0.5, threshold=20, separability=1, warnings=())
    picture = overlay(np.full((*shape, 3), 240, np.uint8), found)
    assert 800 <= max(picture.shape[:2]) <= 1600
    assert picture.shape[0] / picture.shape[1] == pytest.approx(shape[0] / shape[1], rel=0.01)
    assert all((picture == color).all(axis=2).any() for color in ((0, 150, 0), (240, 140, 0)))


def test_many_pieces_are_outlined_in_one_pass() -> None:
    mask = np.tile(np.pad(np.full((2, 2), 255, np.uint8), ((0, 2), (0, 2))), (150, 150))
    assert cv2.connectedComponents(mask, connectivity=4)[0] - 1 == 22_500
    assert len(o.outlined(of_mask(mask), 9600, 9600)) == 22_500

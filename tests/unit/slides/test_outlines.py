from __future__ import annotations

import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from scheduling.slides.nuclei.contours import fill_rings, outlines, ring_areas, split_pieces, trace
from scheduling.slides.nuclei.measure import axes_px, circularities, moments, perimeters_px, polygons, solidities, spread
from scheduling.slides.nuclei.runs import runs_of

label_images = arrays(np.int32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 3))


@settings(deadline=None)
@given(label_images)
def test_pieces_are_the_four_connected_parts_of_equal_labels(labels: np.ndarray) -> None:
    pieces, count = split_pieces(labels)
    assert count == sum(ndimage.label(labels == value)[1] for value in (1, 2, 3))
    for piece in range(1, count + 1):
        assert len(np.unique(labels[pieces == piece])) == 1
        assert ndimage.label(pieces == piece)[1] == 1


@settings(deadline=None)
@given(label_images)
def test_after_filling_each_outline_is_valid_and_encloses_exactly_its_pixels(labels: np.ndarray) -> None:
    pieces, _ = split_pieces(labels)
    fill_rings(pieces)
    rings, numbers = outlines(pieces)
    areas = np.bincount(pieces.reshape(-1))[numbers]
    assert (ring_areas(rings) == areas).all()
    shapes = polygons(rings)
    assert shapely.is_valid(shapes).all()
    assert (shapely.area(shapes) == areas).all()


def test_only_the_largest_piece_of_a_label_is_outlined() -> None:
    labels = np.zeros((6, 8), np.int32)
    labels[0, 0] = 5
    labels[2:4, 2:6] = 5
    rings, numbers = outlines(labels)
    assert numbers.tolist() == [5]
    assert rings.ring(0).tolist() == [[2, 2], [6, 2], [6, 4], [2, 4], [2, 2]]


def test_a_disk_measures_as_a_disk() -> None:
    y, x = np.mgrid[0:60, 0:60]
    labels = ((x - 30) ** 2 + (y - 29) ** 2 <= 20**2).astype(np.int32)
    sums, rings = moments(runs_of(labels), 1).moved(100_000, 70_000), trace(labels, 1)
    major, minor = axes_px(sums)
    assert abs(major[0] - 40) < 0.5
    assert abs(minor[0] - 40) < 0.5
    assert (sums.x / sums.area).tolist() == [100_030]
    assert (sums.y / sums.area).tolist() == [70_029]
    assert abs(perimeters_px(rings)[0] / (2 * np.pi * 20) - 1) < 0.03
    assert circularities(sums.area, perimeters_px(rings))[0] > 0.95
    assert solidities(rings)[0] > 0.93


@settings(deadline=None)
@given(label_images)
def test_solidity_is_the_area_over_that_of_the_convex_hull(labels: np.ndarray) -> None:
    rings, _ = outlines(labels)
    shapes = polygons(rings)
    assert np.allclose(solidities(rings), ring_areas(rings) / shapely.area(shapely.convex_hull(shapes)))


@settings(deadline=None)
@given(label_images, st.integers(0, 500), st.integers(0, 500))
def test_moments_and_means_are_those_of_each_object_s_pixels(labels: np.ndarray, left: int, top: int) -> None:
    values = np.arange(labels.size, dtype=np.float32).reshape(labels.shape)
    pieces, count = split_pieces(labels)
    sums, found = moments(runs_of(pieces), count).moved(left, top), spread(runs_of(pieces), count, values)
    mean, deviation = found.mean, found.sd
    for piece in range(1, count + 1):
        y, x = np.nonzero(pieces == piece)
        x, y = x + left, y + top
        found = [int(total[piece - 1]) for total in (sums.area, sums.x, sums.y, sums.xx, sums.xy, sums.yy)]
        assert found == [len(x), x.sum(), y.sum(), (x * x).sum(), (x * y).sum(), (y * y).sum()]
        inside = values[pieces == piece]
        assert np.allclose((mean[piece - 1], deviation[piece - 1]), (inside.mean(), inside.std()), atol=1e-2)

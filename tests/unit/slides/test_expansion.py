from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from scheduling.slides.nuclei.contours import fill_rings, split_pieces
from scheduling.slides.nuclei.detection import only
from scheduling.slides.nuclei.expansion import _nearest, expanded, reach_px, tissue_of

SIDE = 22
label_images = arrays(np.int32, (SIDE, SIDE), elements=st.sampled_from([0] * 12 + [1, 2]))
tissues = arrays(np.uint8, (SIDE, SIDE), elements=st.sampled_from([0, 1, 1, 1, 1]))


def nuclei_of(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Pieces without holes."""
    pieces, _ = split_pieces(labels)
    fill_rings(pieces)
    return only(pieces, np.bincount(pieces.reshape(-1)) > 0)


def u_shape() -> tuple[np.ndarray, int]:
    """A nucleus around three sides of another one."""
    nuclei = np.zeros((40, 40), np.int32)
    nuclei[10:30, 10:30] = 1
    nuclei[10:26, 14:26] = 0
    nuclei[19:22, 19:22] = 2
    return nuclei, 2


@settings(deadline=None, max_examples=60)
@given(label_images, tissues, st.integers(0, 60))
def test_each_pixel_of_tissue_goes_to_the_nearest_nucleus_within_reach(labels: np.ndarray, tissue: np.ndarray, most: int) -> None:
    nuclei, count = nuclei_of(labels)
    y, x = np.mgrid[:SIDE, :SIDE]
    squares = np.full((count + 1, SIDE, SIDE), most + 1)
    for label in range(1, count + 1):
        v, u = np.nonzero(nuclei == label)
        squares[label] = ((y[..., None] - v) ** 2 + (x[..., None] - u) ** 2).min(axis=2)
    wanted = np.where(squares.min(axis=0) <= most, squares.argmin(axis=0), 0)
    assert np.array_equal(_nearest(nuclei, tissue, most), np.where(nuclei > 0, nuclei, np.where(tissue > 0, wanted, 0)))


@settings(deadline=None, max_examples=60)
@given(label_images, tissues, st.floats(0, 9))
def test_each_cell_is_one_piece_without_holes_around_its_nucleus_alone(labels: np.ndarray, tissue: np.ndarray, distance_px: float) -> None:
    nuclei, count = nuclei_of(labels)
    cells = expanded(nuclei, count, tissue, distance_px)
    assert np.array_equal(cells[nuclei > 0], nuclei[nuclei > 0])
    for label in range(1, count + 1):
        assert ndimage.label(cells == label)[1] == 1
        assert np.array_equal(ndimage.binary_fill_holes(cells == label), cells == label)


def test_a_cell_that_would_close_around_another_one_keeps_to_its_nucleus() -> None:
    nuclei, count = u_shape()
    cells = expanded(nuclei, count, np.ones((40, 40), np.uint8), 12)
    assert np.array_equal(cells == 1, nuclei == 1)
    assert (cells == 2).sum() > 9


def test_a_cell_ends_half_way_to_its_neighbour_and_at_the_glass() -> None:
    nuclei, tissue = np.zeros((40, 60), np.int32), np.ones((40, 60), np.uint8)
    nuclei[18:22, 20:24], nuclei[18:22, 30:34], tissue[:10] = 1, 2, 0
    cells = expanded(nuclei, 2, tissue, 12.4)
    assert cells[20].tolist() == [0] * 8 + [1] * 19 + [2] * 19 + [0] * 14
    assert not cells[:10].any()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(0, 30), st.integers(0, 30))
def test_two_windows_that_see_the_same_nuclei_draw_the_same_cells(seed: int, left: int, top: int) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 1, (2, 200, 200))
    nuclei, count = nuclei_of((ndimage.gaussian_filter(noise[0], 2) > 0.18).astype(np.int32))
    tissue, distance = (ndimage.gaussian_filter(noise[1], 3) > -0.12).astype(np.uint8), 9.5
    whole = expanded(nuclei, count, tissue, distance)
    part = np.ascontiguousarray(nuclei[top : top + 160, left : left + 160])
    numbers = np.unique(part)
    numbered = np.searchsorted(numbers, part).astype(np.int32)
    cells = numbers[expanded(numbered, len(numbers) - 1, np.ascontiguousarray(tissue[top : top + 160, left : left + 160]), distance)]
    # Cells of nuclei that lie deeper than twice the distance, and than their own length, inside the window.
    deep = np.zeros((200, 200), bool)
    margin = reach_px(distance, 1.0)
    deep[top + margin : top + 160 - margin, left + margin : left + 160 - margin] = True
    inside = [label for label in np.unique(nuclei[deep]) if label and deep[nuclei == label].all()]
    for label in inside:
        assert np.array_equal(cells == label, (whole == label)[top : top + 160, left : left + 160])


@pytest.mark.parametrize("density", [0.05, 0.2])
def test_tissue_is_what_is_stained(density: float) -> None:
    image = np.full((30, 30), density / 2, np.float32)
    assert tissue_of((image, image), 0.5).all() == (density > 0.12)

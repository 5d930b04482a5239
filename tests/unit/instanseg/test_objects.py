"""A model's labels as objects: one piece, no holes, the same number for a nucleus and its cell."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from scheduling.instanseg.objects import whole_objects
from scheduling.slides.nuclei.contours import ring_areas, split_pieces, trace


def drawn(*rows: str) -> np.ndarray:
    """Labels from rows of digits; a point is background."""
    return np.array([[0 if letter == "." else int(letter) for letter in row] for row in rows], np.int32)


def test_the_largest_piece_is_kept_and_of_equals_the_first() -> None:
    nuclei, cells, count = whole_objects(drawn("77..2", "7...2", ".....", "777..", "..2.2"))
    assert cells is None
    assert count == 2
    # Two pieces of three pixels of 7: the first; the piece of two pixels of 2.
    assert np.array_equal(nuclei, drawn("11..2", "1...2", ".....", ".....", "....."))


def test_pieces_that_touch_by_a_corner_are_two() -> None:
    nuclei, _, count = whole_objects(drawn("33...", "33...", "..3..", "..33."))
    assert count == 1
    assert np.array_equal(nuclei, drawn("11...", "11...", ".....", "....."))


def test_holes_are_filled_and_what_lies_in_them_is_absorbed() -> None:
    nuclei, _, count = whole_objects(drawn("5555...", "5..5.9.", "5.85...", "5555..."))
    assert count == 2
    assert np.array_equal(nuclei, drawn("1111...", "1111.2.", "1111...", "1111..."))


def test_a_cell_is_the_piece_that_holds_its_nucleus_even_if_it_is_not_the_largest() -> None:
    cells = drawn("44.......", "44...4444", ".....4444")
    nuclei = drawn("4........", ".........", ".........")
    found, whole, count = whole_objects(nuclei, cells)
    assert count == 1
    assert np.array_equal(found, drawn("1........", ".........", "........."))
    assert np.array_equal(whole, drawn("11.......", "11.......", "........."))


def test_a_cell_without_a_nucleus_stays_and_a_nucleus_whose_cell_was_absorbed_goes() -> None:
    cells = drawn("111111..33", "1....1..33", "1.22.1....", "1....1....", "111111....")
    nuclei = drawn("..........", "..........", "..2.......", "..........", "1.........")
    found, whole, count = whole_objects(nuclei, cells)
    assert count == 2
    assert np.array_equal(np.unique(found), [0, 1])
    assert np.array_equal(whole, drawn("111111..22", "111111..22", "111111....", "111111....", "111111...."))


def test_nothing_gives_nothing() -> None:
    empty = np.zeros((5, 6), np.int32)
    nuclei, cells, count = whole_objects(empty, empty)
    assert count == 0
    assert not nuclei.any()
    assert cells is not None
    assert not cells.any()
    assert whole_objects(empty)[2] == 0


@pytest.mark.parametrize("seed", range(12))
def test_each_is_one_piece_whose_ring_encloses_just_its_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    blobs = ndimage.gaussian_filter(rng.normal(size=(90, 80)), 1.5 + seed % 3)
    cells = (ndimage.zoom(rng.integers(1, 40, (9, 8)), 10, order=0) * (blobs > 0)).astype(np.int32)
    nuclei = np.where(blobs > 0.5 * blobs.std(), cells, 0).astype(np.int32)
    found, whole, count = whole_objects(nuclei, cells)
    assert whole is not None
    assert np.array_equal(found[found > 0], whole[found > 0])
    assert set(np.unique(whole)) == set(range(count + 1))
    for labels in (whole, whole_objects(nuclei)[0]):
        number = int(labels.max())
        assert split_pieces(labels)[1] == number
        assert np.array_equal(ring_areas(trace(labels, number)), np.bincount(labels.reshape(-1))[1:])
        firsts = [int(np.flatnonzero(labels == label)[0]) for label in range(1, number + 1)]
        assert firsts == sorted(firsts)

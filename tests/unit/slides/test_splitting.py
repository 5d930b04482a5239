from __future__ import annotations

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from scheduling.slides.nuclei.runs import euler_numbers, joined, paint, parts_of, runs_of, touching
from scheduling.slides.nuclei.splitting import leftovers, nearest_along

masks = arrays(np.uint8, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.integers(0, 1))
label_images = arrays(np.int32, st.tuples(st.integers(1, 12), st.integers(1, 40)), elements=st.integers(0, 2))
EVERY_SIDE = np.ones((3, 3), int)


def image_of(runs: np.ndarray, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    out = np.zeros(shape, np.int32)
    paint(out, runs, values)
    return out


def nearest_by_a_heap(seeds: np.ndarray, mask: np.ndarray, most: int) -> np.ndarray:
    """The label of the nearest seed along the mask, of several the first one, by Dijkstra's algorithm over (distance, label)."""
    labels = ndimage.label(seeds, EVERY_SIDE)[0]
    best = {(y, x): (0, int(labels[y, x])) for y, x in np.argwhere(labels > 0).tolist()}
    heap = [(*key, place) for place, key in best.items()]
    heapq.heapify(heap)
    while heap:
        distance, label, (y, x) = heapq.heappop(heap)
        for v in (y - 1, y, y + 1):
            for u in (x - 1, x, x + 1):
                if not (0 <= v < mask.shape[0] and 0 <= u < mask.shape[1] and mask[v, u]):
                    continue
                key = (distance + (5 if u == x or v == y else 7), label)
                if key < best.get((v, u), (5 * most + 1, 0)):
                    best[v, u] = key
                    heapq.heappush(heap, (*key, (v, u)))
    out = np.zeros(mask.shape, np.int32)
    for place, (_, label) in best.items():
        out[place] = label
    return out


@settings(deadline=None, max_examples=150)
@given(masks, st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_a_pixel_belongs_to_the_seed_that_is_nearest_along_the_mask(mask: np.ndarray, draw: int, most: int) -> None:
    seeds = mask & (np.random.default_rng(draw).random(mask.shape) < 0.08)
    runs, pieces, count = nearest_along(seeds, mask, most)
    labels = image_of(runs, runs[:, 3], mask.shape)
    np.testing.assert_array_equal(labels, nearest_by_a_heap(seeds, mask, most))
    assert (image_of(runs, np.ones(len(runs), np.int32), mask.shape) == mask).all()
    values = [0, *np.unique(labels[labels > 0])]
    assert count == sum(ndimage.label((labels == value) & (mask > 0))[1] for value in values)
    free, number = ndimage.label((mask > 0) & (labels == 0))
    touched = [bool((ndimage.binary_dilation(free == piece) & (labels > 0)).any()) for piece in range(1, number + 1)]
    found = leftovers(runs, pieces, count)
    assert sorted(touched) == sorted(bool(found[piece]) for piece in np.unique(pieces[runs[:, 3] == 0]))


def test_a_distance_that_fits_into_no_key_is_refused() -> None:
    one = np.ones((2, 2), np.uint8)
    with pytest.raises(ValueError, match="too far apart"):
        nearest_along(one, one, 60)


@settings(deadline=None, max_examples=150)
@given(label_images)
def test_runs_are_the_image_and_know_its_pieces_and_holes(labels: np.ndarray) -> None:
    runs = runs_of(labels)
    assert (image_of(runs, runs[:, 3], labels.shape) == labels).all()
    euler = euler_numbers(runs, 2)
    for label in (1, 2):
        one = labels == label
        holes = ndimage.label(np.pad(~one, 1, constant_values=True))[1] - 1
        assert euler[label] == ndimage.label(one, EVERY_SIDE)[1] - holes
        for corner, shape in ((0, None), (1, EVERY_SIDE)):
            assert joined(runs[runs[:, 3] == label], corner)[1] == ndimage.label(one, shape)[1]


@settings(deadline=None, max_examples=100)
@given(label_images, st.integers(0, 2**32 - 1), st.sampled_from([-1, 1]), st.sampled_from([0, 1]))
def test_what_runs_touch_and_what_of_them_lies_in_a_mask(labels: np.ndarray, draw: int, rows: int, corner: int) -> None:
    runs = runs_of(labels)
    for (y, begin, end, _), (first, last) in zip(runs.tolist(), touching(runs, rows, corner).tolist(), strict=True):
        beside = [i for i, (v, b, e, _) in enumerate(runs.tolist()) if v == y + rows and b < end + corner and e > begin - corner]
        assert list(range(first, last)) == beside
    mask = (np.random.default_rng(draw).random(labels.shape) < 0.5).astype(np.uint8)
    parts = parts_of(runs, mask)
    assert (image_of(parts, parts[:, 3], labels.shape) == labels * mask).all()

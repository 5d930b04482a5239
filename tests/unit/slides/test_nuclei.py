from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.slides.nuclei.detection import NucleusLimits, nuclei_labels
from scheduling.slides.nuclei.edges import local_mean

LIMITS = NucleusLimits(mpp=0.5, dark_level=80, pale_level=30)
CYTOPLASM = 0.12
Floats = npt.NDArray[np.float32]


def disk(radius: float, x: float = 60, y: float = 60) -> npt.NDArray[np.bool_]:
    row, column = np.mgrid[0:120, 0:120]
    return np.asarray((column - x) ** 2 + (row - y) ** 2 <= radius**2)


def stained(nuclear: float, shape: npt.NDArray[np.bool_], eosin: float = 0.2) -> tuple[Floats, Floats]:
    """Tissue with one object of a hematoxylin density."""
    hematoxylin = np.full((120, 120), CYTOPLASM, np.float32)
    hematoxylin[shape] = nuclear
    return hematoxylin, np.full((120, 120), eosin, np.float32)


@pytest.mark.parametrize("nuclear", [0.45, 0.8, 1.6])
def test_a_nucleus_is_outlined_at_its_edge_however_dark_it_is(nuclear: float) -> None:
    labels, count = nuclei_labels(stained(nuclear, disk(10)), LIMITS)
    assert count == 1
    assert (labels > 0).sum() == pytest.approx(disk(10).sum(), rel=0.06)


def test_what_hardly_stands_out_from_the_tissue_around_it_is_no_nucleus() -> None:
    hematoxylin, eosin = stained(1.0, disk(10))
    hematoxylin[~disk(10)] = 0.75
    assert nuclei_labels((hematoxylin, eosin), LIMITS)[1] == 0


@pytest.mark.parametrize("eosin", [-0.3, 0.9])
def test_ink_and_keratin_are_no_nuclei(eosin: float) -> None:
    assert nuclei_labels(stained(0.9, disk(10), eosin), LIMITS)[1] == 0


def test_two_touching_nuclei_are_parted() -> None:
    assert nuclei_labels(stained(0.9, disk(10, x=51) | disk(10, x=69)), LIMITS)[1] == 2


def test_a_pale_centre_belongs_to_its_nucleus() -> None:
    hematoxylin, eosin = stained(0.8, disk(11))
    hematoxylin[disk(3)] = 0.2
    labels, count = nuclei_labels((hematoxylin, eosin), LIMITS)
    assert count == 1
    assert labels[60, 60] == 1


def test_the_local_mean_is_of_the_weighted_pixels_and_elsewhere_the_prior() -> None:
    levels, weights = np.full((200, 200), 90, np.uint8), np.zeros((200, 200), np.uint8)
    levels[:, :100], weights[:, :100] = 20, 1
    means = local_mean(levels, weights, 10, 50)
    assert means[100, 50] == pytest.approx((20 + 0.04 * 50) / 1.04)
    assert means[100, 150] == 50


SIZE, WINDOW = 540, 480
EXACT = NucleusLimits(mpp=0.5, dark_level=110, pale_level=45)


def adversarial(seed: int, kind: str) -> Floats:
    """Hematoxylin of (SIZE, SIZE): what goes on for ever, hangs together by threads, or is hardly more than noise."""
    rng = np.random.default_rng(seed)
    picture = np.full((SIZE, SIZE), 0.05, np.float32)
    if kind == "strands":
        for _ in range(40):
            ends = rng.integers(0, SIZE, (2, 2)).tolist()
            cv2.line(picture, ends[0], ends[1], float(rng.uniform(0.4, 1.2)), int(rng.integers(1, 9)))
    elif kind == "crowd":
        for x, y, radius in rng.integers((0, 0, 4), (SIZE, SIZE, 16), (700, 3)).tolist():
            cv2.circle(picture, (x, y), radius, float(rng.uniform(0.5, 1.2)), -1)
    elif kind == "bars":
        picture[rng.integers(0, 40) :: 40] = picture[:, rng.integers(0, 30) :: 30] = 0.9
        picture = np.asarray(cv2.dilate(picture, np.ones((9, 7), np.uint8)), np.float32)
    else:
        picture += np.asarray(cv2.GaussianBlur(rng.normal(0, 4, (SIZE, SIZE)).astype(np.float32), (0, 0), 5), np.float32)
    return np.maximum(picture + rng.normal(0, 0.02, picture.shape).astype(np.float32), 0)


def objects_within(hematoxylin: Floats, left: int, top: int, room: tuple[int, int, int, int]) -> set[bytes]:
    """Pixels, in the coordinates of the whole, of each object whose centroid lies in `room` (left, top, right, bottom)."""
    labels, count = nuclei_labels((hematoxylin, np.full_like(hematoxylin, 0.2)), EXACT)
    found = set()
    for number in range(1, count + 1):
        y, x = np.nonzero(labels == number)
        if room[0] <= x.mean() + left < room[2] and room[1] <= y.mean() + top < room[3]:
            found.add(np.stack([x + left, y + top]).astype(np.int32).tobytes())
    return found


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), kind=st.sampled_from(["strands", "crowd", "bars", "noise"]), x=st.integers(0, 60), y=st.integers(0, 60))
def test_what_lies_as_deep_in_two_windows_as_nuclei_reach_is_the_same_in_both(seed: int, kind: str, x: int, y: int) -> None:
    picture, halo = adversarial(seed, kind), EXACT.max_extent_px + EXACT.reach_px
    room = (x + halo, y + halo, WINDOW - halo, WINDOW - halo)
    window = np.ascontiguousarray(picture[y : y + WINDOW, x : x + WINDOW])
    assert objects_within(window, x, y, room) == objects_within(picture[:WINDOW, :WINDOW].copy(), 0, 0, room)

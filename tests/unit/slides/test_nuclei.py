from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from scheduling.slides.edges import local_mean
from scheduling.slides.nuclei import NucleusLimits, nuclei_labels

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

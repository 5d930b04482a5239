from __future__ import annotations

import re
from dataclasses import asdict

import numpy as np
import pytest

from scheduling.slides.nuclei.calibration import stains_of
from scheduling.slides.nuclei.stain import EOSIN, HEMATOXYLIN, Stains, Vector, densities, estimate, otsu_level, separability

BACKGROUND = (240.0, 241.0, 242.0)
#: Of another laboratory: QuPath's eosin, the hematoxylin of Macenko's reference slide.
OTHERS = ((0.5626, 0.7201, 0.4062), (0.2159, 0.8012, 0.5581))
DAB = (0.27, 0.57, 0.78)
GREEN_INK = (0.92, 0.28, 0.28)
TISSUE_OD = 0.36


def stained(amounts: np.ndarray, vectors: tuple[Vector, ...] = (HEMATOXYLIN, EOSIN)) -> np.ndarray:
    """uint8 pixels (n, 3) of amounts (n, stains) of each stain."""
    units = np.stack([np.asarray(v) / np.linalg.norm(v) for v in vectors])
    return np.clip(np.round((np.asarray(BACKGROUND) + 1) * 10 ** -(amounts @ units) - 1), 0, 255).astype(np.uint8)


def tissue(vectors: tuple[Vector, ...] = (HEMATOXYLIN, EOSIN), strength: float = 1.0) -> np.ndarray:
    """Pixels of a section: some hold one stain alone, most a mixture, some nothing."""
    random = np.random.default_rng(0)
    amounts = random.uniform(0.05, 0.9, (60_000, 2)) * random.choice([[1, 0], [0, 1], [1, 1], [0, 0]], 60_000, p=[0.1, 0.2, 0.5, 0.2])
    return stained(strength * amounts, vectors)


def degrees(one: Vector, other: Vector) -> float:
    return float(np.degrees(np.arccos(np.clip(np.dot(one, other) / np.linalg.norm(one) / np.linalg.norm(other), -1, 1))))


def test_deconvolution_gives_back_the_amounts_of_both_stains() -> None:
    amounts = np.random.default_rng(0).uniform(0.05, 0.7, (400, 2))
    hematoxylin, eosin = densities(stained(amounts).reshape(20, 20, 3), Stains(background=BACKGROUND))
    assert np.abs(hematoxylin.reshape(-1) - amounts[:, 0]).max() < 0.03
    assert np.abs(eosin.reshape(-1) - amounts[:, 1]).max() < 0.03


@pytest.mark.parametrize("vectors", [(HEMATOXYLIN, EOSIN), OTHERS, (HEMATOXYLIN, OTHERS[1]), (OTHERS[0], EOSIN)])
def test_the_vectors_of_a_slide_are_found(vectors: tuple[Vector, Vector]) -> None:
    found = estimate(tissue(vectors), BACKGROUND, TISSUE_OD)
    assert (found.source, found.doubt) == ("estimated", "")
    assert degrees(found.hematoxylin, vectors[0]) < 2
    assert degrees(found.eosin, vectors[1]) < 2


@pytest.mark.parametrize("foreign", [GREEN_INK, DAB])
def test_ink_and_pigment_on_a_slide_do_not_move_its_vectors(foreign: Vector) -> None:
    mark = stained(np.random.default_rng(1).uniform(0.5, 1.5, (6000, 1)), (foreign,))
    clean = estimate(tissue(), BACKGROUND, TISSUE_OD)
    marked = estimate(np.concatenate([tissue(), mark]), BACKGROUND, TISSUE_OD)
    assert marked.source == "estimated"
    assert degrees(marked.hematoxylin, clean.hematoxylin) < 1
    assert degrees(marked.eosin, clean.eosin) < 1


@pytest.mark.parametrize(
    ("pixels", "doubt"),
    [
        (tissue((HEMATOXYLIN, HEMATOXYLIN)), r"apart, where 15 to 60° are plausible"),
        (tissue((DAB, DAB)), "have the colours of H&E"),
        (tissue()[:900], "only [0-9]+ of 900 pixels looked at"),
        (tissue(((0.3, 0.92, 0.2), (0.0, 0.8, 0.8))), "on the side of hematoxylin is 2[0-9]° off"),
        (tissue(((0.64, 0.64, 0.44), (0.05, 0.8, 0.8))), "on the side of eosin is [34][0-9]° off"),
    ],
)
def test_what_is_no_hematoxylin_and_eosin_keeps_the_customary_vectors_and_says_why(pixels: np.ndarray, doubt: str) -> None:
    found = estimate(pixels, BACKGROUND, TISSUE_OD)
    assert found == Stains(background=BACKGROUND, doubt=found.doubt)
    assert found.source == "customary"
    assert re.search(doubt, found.doubt)


def test_a_faint_slide_has_the_vectors_of_a_strong_one() -> None:
    strong, faint = (stains_of([tissue(OTHERS, strength).reshape(200, 300, 3)]) for strength in (1.0, 0.35))
    assert strong.source == faint.source == "estimated"
    assert degrees(strong.hematoxylin, faint.hematoxylin) < 3
    assert degrees(strong.eosin, faint.eosin) < 3


def test_without_an_estimate_the_customary_vectors_are_taken_and_nothing_is_doubted() -> None:
    found = stains_of([tissue(OTHERS).reshape(200, 300, 3)], are_estimated=False)
    assert found == Stains(background=found.background)


def test_stains_survive_json_also_as_earlier_versions_wrote_them() -> None:
    found = estimate(tissue(), BACKGROUND, TISSUE_OD)
    assert Stains.from_json(asdict(found)) == found
    earlier = {"background": list(BACKGROUND), "hematoxylin": list(HEMATOXYLIN), "eosin": list(EOSIN)}
    assert Stains.from_json(earlier) == Stains(background=BACKGROUND)


def test_otsu_parts_two_peaks() -> None:
    counts = np.zeros(256, np.int64)
    counts[40:50], counts[150:160] = 100, 60
    level = otsu_level(counts)
    assert 49 <= level < 150
    assert separability(counts, level) > 0.95
    assert otsu_level(np.zeros(256, np.int64)) == 0

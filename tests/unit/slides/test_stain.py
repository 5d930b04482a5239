from __future__ import annotations

import numpy as np

from scheduling.slides.stain import EOSIN, HEMATOXYLIN, Stains, densities, estimate, otsu_level, separability

BACKGROUND = (240.0, 241.0, 242.0)


def stained(amounts: np.ndarray) -> np.ndarray:
    """uint8 pixels of (n, 2) amounts of hematoxylin and eosin."""
    vectors = np.stack([np.asarray(v) / np.linalg.norm(v) for v in (HEMATOXYLIN, EOSIN)])
    return np.clip(np.round((np.asarray(BACKGROUND) + 1) * 10 ** -(amounts @ vectors) - 1), 0, 255).astype(np.uint8)


def test_deconvolution_gives_back_the_amounts_of_both_stains() -> None:
    amounts = np.random.default_rng(0).uniform(0.05, 0.7, (400, 2))
    hematoxylin, eosin = densities(stained(amounts).reshape(20, 20, 3), Stains(background=BACKGROUND))
    assert np.abs(hematoxylin.reshape(-1) - amounts[:, 0]).max() < 0.03
    assert np.abs(eosin.reshape(-1) - amounts[:, 1]).max() < 0.03


def test_one_stain_alone_keeps_the_customary_vectors() -> None:
    amounts = np.stack([np.random.default_rng(0).uniform(0.3, 1, 5000), np.zeros(5000)], axis=1)
    assert estimate(stained(amounts), BACKGROUND) == Stains(background=BACKGROUND)


def test_otsu_parts_two_peaks() -> None:
    counts = np.zeros(256, np.int64)
    counts[40:50], counts[150:160] = 100, 60
    level = otsu_level(counts)
    assert 49 <= level < 150
    assert separability(counts, level) > 0.95
    assert otsu_level(np.zeros(256, np.int64)) == 0

"""The fast post-processing gives the labels of the model's own forward: on noise, in crowds, at any size of object; step by step too."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch

from scheduling.instanseg.kernels import grown, peaks
from scheduling.instanseg.network import Network
from scheduling.instanseg.normalisation import Normalisation
from scheduling.instanseg.pairing import resolved, tied
from tests.support.standin import library

Networks = Callable[[str, bool], Network]
NORM = Normalisation(low=(40.0, 40.0, 40.0), high=(240.0, 240.0, 240.0))


def noise(seed: int, grain_px: float, size: tuple[int, int] = (96, 112)) -> np.ndarray:
    """uint8 (h, w, 3): blobs of about this size, without any order."""
    rough = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    smooth = cv2.GaussianBlur(rough, (0, 0), grain_px)
    return np.repeat(np.clip(150 + 70 * smooth / smooth.std(), 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


@pytest.mark.parametrize("variant", ["nuclei", "cells"])
@pytest.mark.parametrize(
    ("grain_px", "settings"),
    [
        (0.8, {"seed_threshold": 0.5}),
        (1.2, {"seed_threshold": 0.55, "peak_distance": 2.0}),
        (2.5, {}),
        (2.5, {"mask_threshold": 0.2, "overlap_threshold": 0.1}),
        (4.0, {"mask_threshold": 0.9}),
        (9.0, {"mask_threshold": 0.05, "peak_distance": 3.0}),
        (9.0, {"window_size": 20.0, "seed_threshold": 0.5}),
    ],
)
def test_labels_are_the_models_own(
    networks_of: Callable[[str], tuple[Network, Network]], variant: str, grain_px: float, settings: dict[str, float]
) -> None:
    own, fast = networks_of(variant)
    most = 0
    for seed in range(3):
        rgb = noise(seed, grain_px)
        theirs, ours = own.labels(rgb, NORM, settings), fast.labels(rgb, NORM, settings)
        raw = own.labels(rgb, NORM, {**settings, "resolve_cell_and_nucleus": 0.0})
        undecided = tied(*raw) if raw[1] is not None else np.zeros(rgb.shape[:2], bool)
        assert np.array_equal(ours[0], theirs[0])
        if variant == "cells":
            assert np.array_equal(np.where(undecided, 0, ours[1]), np.where(undecided, 0, theirs[1]))
        most = max(most, len(np.unique(theirs[0])))
    assert most > 3


@pytest.fixture
def networks_of(network: Networks) -> Callable[[str], tuple[Network, Network]]:
    return lambda variant: (network(variant, False), network(variant, True))


def spiral(size: int = 64) -> np.ndarray:
    """bool (size, size): a band that winds inwards, longer than any number of steps that is taken."""
    out = np.zeros((size, size), bool)
    y, x, dy, dx = 2, 2, 0, 1
    for length in sorted([*range(2, size - 4, 4)] * 2, reverse=True):
        for _ in range(length):
            out[y, x] = True
            y, x = y + dy, x + dx
        dy, dx = dx, -dy
    return out


@pytest.mark.parametrize("kind", ["noise", "blobs", "rings", "spiral", "full", "empty"])
def test_an_object_is_what_the_librarys_flood_fill_and_hole_filling_find(kind: str) -> None:
    rng, size, number = np.random.default_rng(5), 64, 24
    shapes = {
        "noise": rng.random((number, size, size)) < 0.55,
        "blobs": np.stack([noise(seed, 3.0, (size, size))[:, :, 0] > 140 for seed in range(number)]),
        "rings": np.stack([(np.hypot(*np.mgrid[-32:32, -32:32]) % (4 + seed)) < 2.5 for seed in range(number)]),
        "spiral": np.stack([spiral()] * number),
        "full": np.ones((number, size, size), bool),
        "empty": np.zeros((number, size, size), bool),
    }
    masks = shapes[kind]
    seeds = rng.integers(0, size, (number, 2))
    if kind == "spiral":
        seeds[: number // 2] = 2
    corners = np.zeros((number, 2), np.int64)
    pixels, values, lengths = grown(np.where(masks, 0.75, 0.25).astype(np.float32), corners, corners, seeds, size, size, 0.5)
    expected = objects_by_the_library(masks, seeds)
    ends = np.cumsum(lengths)
    for index in range(number):
        ours = np.zeros(size * size, np.float32)
        at = slice(ends[index] - lengths[index], ends[index])
        ours[pixels[at]] = values[at]
        assert np.array_equal(ours.reshape(size, size), expected[index])


def objects_by_the_library(masks: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """float32 (n, h, w): 0.75 on the object of each seed, 0.5 in its holes."""
    steps = library()
    marks = torch.zeros(len(masks), 1, *masks.shape[1:])
    marks[torch.arange(len(masks)), 0, torch.from_numpy(seeds[:, 0]), torch.from_numpy(seeds[:, 1])] = 1
    filled = steps.flood_fill(torch.from_numpy(masks)[:, None], marks) > 0
    holes = torch.bitwise_xor(steps.fill_holes(filled), filled)
    return np.asarray((filled * 0.75 + holes * 0.5)[:, 0].numpy(), np.float32)


def test_an_object_that_the_smaller_square_cuts_is_left_to_the_larger_one() -> None:
    probability = np.zeros((2, 32, 32), np.float32)
    probability[0, 16, 10:20] = 1
    probability[1, 16, 10:] = 1
    inner, outer = np.array([[16, 16], [16, 16]]), np.zeros((2, 2), np.int64)
    _, _, lengths = grown(probability, inner, outer, np.array([[32, 32], [32, 32]]), 64, 64, 0.5)
    assert lengths.tolist() == [10, -1]
    # At the edge of the larger square nothing is cut: there the object ends.
    _, _, lengths = grown(probability, np.array([[16, 32]] * 2), outer, np.array([[32, 48], [32, 48]]), 64, 64, 0.5)
    assert lengths.tolist() == [10, 22]


@pytest.mark.parametrize("distance", [1, 5])
@pytest.mark.parametrize("levels", [3, 1000])
def test_peaks_are_the_librarys_ties_and_all(levels: int, distance: int) -> None:
    seed_map = (np.random.default_rng(levels).integers(0, levels, (70, 60)) / levels).astype(np.float32)
    theirs = library().torch_peak_local_max(torch.from_numpy(seed_map), distance, 0.4, dtype=torch.long)
    assert np.array_equal(peaks(seed_map, distance, 0.4), theirs.numpy())
    assert len(theirs)


@pytest.mark.parametrize("shift", [0, 3, 40])
@pytest.mark.parametrize("seed", range(6))
def test_nuclei_and_cells_are_paired_as_the_library_pairs_them(seed: int, shift: int) -> None:
    """Cells around nuclei, moved by so many pixels: all pairs fit, some do, hardly any does."""
    rng = np.random.default_rng(seed)
    nuclei, cells = np.zeros((120, 130), np.int32), np.zeros((120, 130), np.int32)
    for number in rng.permutation(np.arange(1, 70)).tolist():
        x, y = (int(value) for value in rng.integers(5, 115, 2))
        cv2.circle(cells, (x + shift, y), int(rng.integers(5, 12)), number, -1)
        cv2.circle(nuclei, (x, y), int(rng.integers(2, 6)), 2 * number, -1)
    both = torch.from_numpy(np.stack([nuclei, cells])[None].astype(np.float32))
    theirs = library().resolve_cell_and_nucleus_boundaries(both)[0].numpy().astype(np.int32)
    ours, undecided = resolved(nuclei, cells), tied(nuclei, cells)
    assert np.array_equal(ours[0], theirs[0])
    assert np.array_equal(np.where(undecided, 0, ours[1]), np.where(undecided, 0, theirs[1]))
    assert undecided.mean() < 0.2


@pytest.mark.parametrize(("has_nuclei", "has_cells"), [(False, False), (True, False), (False, True)])
def test_without_nuclei_or_cells_the_other_stands_alone(has_nuclei: bool, has_cells: bool) -> None:
    disk = np.zeros((40, 40), np.int32)
    cv2.circle(disk, (20, 20), 6, 7, -1)
    nuclei, cells = disk * has_nuclei, disk * has_cells
    both = torch.from_numpy(np.stack([nuclei, cells])[None].astype(np.float32))
    theirs = library().resolve_cell_and_nucleus_boundaries(both)[0].numpy()
    assert np.array_equal(np.stack(resolved(nuclei, cells)), theirs)


def test_of_two_largest_nuclei_in_a_cell_the_first_one_names_it() -> None:
    nuclei, cells = np.zeros((20, 20), np.int32), np.zeros((20, 20), np.int32)
    cells[2:18, 2:18] = 5
    nuclei[4:7, 4:7], nuclei[10:13, 10:13] = 8, 3
    assert tied(nuclei, cells).sum() == 16 * 16
    assert resolved(nuclei, cells)[1][2, 2] == resolved(nuclei, cells)[0][10, 10] == 1

"""Percentiles from histograms, and the table that applies them."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.instanseg.normalisation import Normalisation, of_histograms
from scheduling.slides.nuclei.calibration import histograms


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000), st.integers(0, 2**32 - 1), st.integers(1, 256))
def test_percentiles_of_a_histogram_are_those_of_its_pixels(pixels: int, seed: int, levels: int) -> None:
    rgb = np.random.default_rng(seed).integers(256 - levels, 256, (1, pixels, 3)).astype(np.uint8)
    found = of_histograms(histograms(rgb))
    for channel in range(3):
        low, high = np.percentile(rgb[:, :, channel].astype(np.float64), [0.1, 99.9])
        assert found.low[channel] == pytest.approx(low, abs=1e-9)
        assert found.high[channel] == pytest.approx(high, abs=1e-9)


def test_histograms_of_windows_add_up_to_that_of_the_whole() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (90, 70, 3)).astype(np.uint8)
    parts = [histograms(rgb[:31]), histograms(rgb[31:, 20:]), histograms(rgb[31:, :20])]
    assert np.array_equal(sum(parts), histograms(rgb))
    assert histograms(rgb).sum() == rgb.size
    assert of_histograms(np.asarray(sum(parts))) == of_histograms(histograms(rgb))


def test_the_table_stretches_the_two_levels_to_0_and_1() -> None:
    table = Normalisation(low=(39.0, 14.0, 86.0), high=(255.0, 229.0, 255.0)).table()
    assert table.shape == (3, 256)
    assert table.dtype == np.float32
    assert [table[0, 39], table[1, 14], table[2, 86]] == [0, 0, 0]
    assert [table[0, 255], table[1, 229], table[2, 255]] == [1, 1, 1]
    assert (np.diff(table) > 0).all()


def test_a_channel_of_one_level_stays_finite() -> None:
    table = of_histograms(histograms(np.full((8, 8, 3), 240, np.uint8))).table()
    assert np.isfinite(table).all()
    assert table[0, 240] == 0


def test_no_pixel_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="no pixel"):
        of_histograms(np.zeros((3, 256), np.int64))


def test_it_survives_json() -> None:
    norm = Normalisation(low=(1.5, 2.0, 3.0), high=(250.0, 251.25, 255.0))
    assert Normalisation.from_json({name: list(values) for name, values in asdict(norm).items()}) == norm

"""Warming compiles what the post-processing calls, with the types that it calls it with."""

from __future__ import annotations

import numpy as np

from scheduling.instanseg import kernels, warm


def test_after_warming_nothing_is_compiled_for_the_calls_of_the_post_processing() -> None:
    warm._warm_postprocessing()
    called = (kernels.peaks, kernels.grown, kernels.joined, kernels.painted)
    compiled = [len(kernel.signatures) for kernel in called]
    seeds = kernels.peaks(np.eye(80, dtype=np.float32), 5, 0.5)
    outer = np.clip(seeds, 32, np.array([80, 80]) - 32) - 32
    inner = np.clip(seeds - 16, outer, outer + 32)
    pixels, values, lengths = kernels.grown(np.ones((len(seeds), 32, 32), np.float32), inner, outer, seeds, 64, 80, 0.5)
    counts = np.maximum(lengths, 0)
    shape = pixels, np.cumsum(counts) - counts, lengths
    numbers = kernels.joined(*shape, 6400, 0.3)
    kernels.painted(pixels, values, *shape[1:], numbers, 80, 80)
    assert [len(kernel.signatures) for kernel in called] == compiled

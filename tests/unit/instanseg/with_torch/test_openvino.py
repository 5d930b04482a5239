"""The network on OpenVINO: compared with torch before it is used, the same labels, and a clear word where it is not installed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from scheduling.instanseg import openvino_backend
from scheduling.instanseg.facts import ModelUnusable
from scheduling.instanseg.network import Network
from scheduling.instanseg.normalisation import of_histograms
from scheduling.instanseg.openvino_backend import TOLERANCE, OpenvinoFields
from scheduling.slides.calibration import histograms
from tests.support.models import tissue

Networks = Callable[..., Network]


def on_openvino(network: Network) -> Network:
    return Network(network.module, network.facts, backend="openvino")


@pytest.mark.openvino
@pytest.mark.parametrize("variant", ["nuclei", "cells"])
def test_labels_are_torchs_but_for_pixels_on_the_threshold(network: Networks, variant: str) -> None:
    rgb = tissue(256, 192)
    norm, by_torch = of_histograms(histograms(rgb)), network(variant, True)
    model = on_openvino(by_torch)
    for ours, theirs in zip(model.labels(rgb, norm, {}), by_torch.labels(rgb, norm, {}), strict=True):
        if ours is not None and theirs is not None:
            assert ((ours > 0) != (theirs > 0)).mean() < 1e-3
            assert len(np.unique(ours)) == len(np.unique(theirs))
    assert 0 < model.openvino_of(192, 256).relative_error < TOLERANCE
    assert all(np.array_equal(*pair) for pair in zip(model.labels(rgb, norm, {})[:1], model.labels(rgb, norm, {})[:1], strict=True))


def test_without_openvino_it_says_what_to_install(network: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_backend, "is_installed", lambda: False)
    rgb = tissue(144, 128)
    with pytest.raises(ModelUnusable, match="pip install openvino"):
        on_openvino(network("nuclei", True)).labels(rgb, of_histograms(histograms(rgb)), {})


def test_an_answer_that_is_not_torchs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_backend, "is_installed", lambda: True)
    monkeypatch.setattr(openvino_backend, "_compiled", lambda network, height, width: lambda window: [window * 1.001])
    with pytest.raises(ModelUnusable, match="differs from torch's"):
        OpenvinoFields(lambda window: window, 32, 32)
    monkeypatch.setattr(openvino_backend, "_compiled", lambda network, height, width: lambda window: [window])
    same = OpenvinoFields(lambda window: window, 32, 32)
    assert same.relative_error == 0
    batch = torch.rand(3, 3, 32, 32)
    assert torch.equal(same(batch), batch)

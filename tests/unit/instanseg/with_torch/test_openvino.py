"""The network on OpenVINO: compared with torch before it is used, the same labels, and a clear word where it is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import shapely
import torch

from scheduling.instanseg import network as networks
from scheduling.instanseg import openvino_backend
from scheduling.instanseg.facts import ModelUnusable
from scheduling.instanseg.network import Network
from scheduling.instanseg.normalisation import of_histograms
from scheduling.instanseg.openvino_backend import TOLERANCE, OpenvinoFields
from scheduling.instanseg.store import ModelStore
from scheduling.jobtypes import instanseg_wsi
from scheduling.jobtypes.base import BadParameter, JobContext, JobFailed
from scheduling.jobtypes.instanseg_wsi import InstansegWsi
from scheduling.slides.nuclei.calibration import histograms
from scheduling.slides.synthetic.slide import write_sample
from tests.support.matching import f1_at
from tests.support.models import facts_of, tissue
from tests.support.standin import standin_bytes
from tests.support.waiting import PATIENCE_S
from tests.unit.jobtypes.driving import artifacts_of, comparable, job_context, run_job

Networks = Callable[..., Network]
ROOT = Path(__file__).resolve().parents[4]
CONVERTED = """
import sys, torch
from scheduling.instanseg.openvino_backend import OpenvinoFields
network = torch.jit.trace(torch.nn.Conv2d(3, 5, 3, padding=1).eval(), torch.zeros(1, 3, 64, 64))
print(OpenvinoFields(network, 64, 64).relative_error < 1e-4)
print(sorted(name for name in sys.modules if name.startswith("openvino_telemetry") and sys.modules[name]))
"""


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
    monkeypatch.setattr(openvino_backend, "has_openvino", lambda: False)
    rgb = tissue(144, 128)
    with pytest.raises(ModelUnusable, match="pip install openvino"):
        on_openvino(network("nuclei", True)).labels(rgb, of_histograms(histograms(rgb)), {})


def test_an_answer_that_is_not_torchs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_backend, "has_openvino", lambda: True)
    monkeypatch.setattr(openvino_backend, "_compiled", lambda network, height, width: lambda window: [window * 1.001])
    with pytest.raises(ModelUnusable, match="differs from torch's"):
        OpenvinoFields(lambda window: window, 32, 32)
    monkeypatch.setattr(openvino_backend, "_compiled", lambda network, height, width: lambda window: [window])
    same = OpenvinoFields(lambda window: window, 32, 32)
    assert same.relative_error == 0
    batch = torch.rand(3, 3, 32, 32)
    assert torch.equal(same(batch), batch)


@pytest.mark.openvino
def test_nobody_is_told_that_it_is_used(tmp_path: Path) -> None:
    """Left to itself OpenVINO sends what it is used for to its makers, and keeps a number for this machine in the home folder."""
    environ = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    told = subprocess.run(
        [sys.executable, "-c", CONVERTED], env=environ, cwd=ROOT, capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    assert told.stdout.splitlines() == ["True", "[]"]
    assert not (tmp_path / "intel").exists()


class Shifted(InstansegWsi):
    """The same on a grid moved by whole strides."""

    grid_offset = (136, 72)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with a stand-in and a slide."""
    folder = tmp_path_factory.mktemp("data")
    write_sample(folder / "slide.tif", width=900, height=700, seed=11)
    (folder / "model.pt").write_bytes(standin_bytes("nuclei"))
    facts = facts_of("nuclei", file=standin_bytes("nuclei"), name="standin", is_fast=True)
    ModelStore(folder).add(folder / "model.pt", facts)
    return folder


def context_of(data_dir: Path, name: str, **parameters: Any) -> JobContext:
    settled = InstansegWsi.settled({"model": "standin", "tile_px": 320, **parameters}, data_dir)
    return job_context(data_dir, data_dir / "slide.tif", InstansegWsi(), name=name, **settled)


def polygons(context: JobContext) -> list[shapely.Polygon]:
    return [shapely.Polygon(cell["polygon"]) for cell in orjson.loads(artifacts_of(context)["results.json"])]


@pytest.mark.openvino
def test_a_job_that_asks_for_it_is_computed_by_it_and_says_so(data_dir: Path) -> None:
    contexts = [context_of(data_dir, name, backend=name.split()[0]) for name in ("torch", "openvino", "openvino shifted")]
    for context, job_type in zip(contexts, (InstansegWsi(), InstansegWsi(), Shifted()), strict=True):
        networks._networks.clear()
        run_job(job_type, context)
        (key,) = networks._networks
        assert key[2] == context.spec.parameters["backend"]
        assert bool(networks._networks[key]._openvino) == (key[2] == "openvino")
    summaries = [orjson.loads(artifacts_of(context)["summary.json"]) for context in contexts]
    assert [summary["method"]["backend"] for summary in summaries] == ["torch", "openvino", "openvino"]
    assert f1_at(polygons(contexts[1]), polygons(contexts[0]), 0.9) > 0.99
    assert len(polygons(contexts[1])) > 100
    assert comparable(artifacts_of(contexts[1])) == comparable(artifacts_of(contexts[2]))


def test_a_worker_without_it_refuses_the_job(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instanseg_wsi, "has_openvino", lambda: False)
    with pytest.raises(JobFailed, match="pip install openvino"):
        InstansegWsi().plan(context_of(data_dir, "without", backend="openvino"))


def test_it_computes_on_no_device(data_dir: Path) -> None:
    context = context_of(data_dir, "device", backend="openvino")
    with pytest.raises(JobFailed, match="on the CPU"):
        InstansegWsi().plan(replace(context, spec=replace(context.spec, device="gpu")))


def test_a_model_that_it_cannot_compute_is_refused_when_the_job_is_submitted(data_dir: Path, network: Networks, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(standin_bytes("nuclei"))
    slow = facts_of("nuclei", file=standin_bytes("nuclei"), name="standin", is_fast=False)
    ModelStore(tmp_path).add(tmp_path / "model.pt", slow)
    with pytest.raises(BadParameter, match="OpenVINO cannot compute the model standin"):
        InstansegWsi.settled({"backend": "openvino"}, tmp_path)
    assert InstansegWsi.settled({"backend": "torch"}, tmp_path)["model"] == "standin"
    with pytest.raises(ModelUnusable, match="torch can"):
        on_openvino(network("nuclei", True)).prepare(256, {"cleanup_fragments": 0})

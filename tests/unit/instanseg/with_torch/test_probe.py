"""What probing finds out about the stand-ins, and what it refuses, with which words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scheduling.instanseg import probe as probing
from scheduling.instanseg.facts import ModelFacts, ModelUnusable
from scheduling.instanseg.probe import probe
from tests.support.standin import write_standin

ROOT = Path(__file__).resolve().parents[4]


class Tiny(nn.Module):
    """Dark pixels that hang together: InstanSeg's interface without its parts."""

    def __init__(self, pixel_size: float = 0.5, channels: int = 3, kind: str = "objects") -> None:
        super().__init__()
        self.pixel_size, self.cells_and_nuclei = pixel_size, False
        self.channels, self.kind = channels, kind

    def forward(self, x: Tensor, target_segmentation: Tensor = torch.tensor([1, 1])) -> Tensor:  # noqa: B008
        assert x.shape[1] == self.channels, "wrong number of channels"
        dark = (x[:, :1] < 0.45).float()
        if self.kind == "random":
            dark = (torch.rand_like(x[:, :1]) < 0.5).float()
        labels = torch.arange(1, x.shape[2] * x.shape[3] + 1, dtype=torch.float32).reshape(1, 1, x.shape[2], x.shape[3]) * dark
        for _ in range(40):
            labels = F.max_pool2d(labels, 3, stride=1, padding=1) * dark
        if self.kind == "flat":
            return labels[0, 0]
        if self.kind == "fractions":
            return labels / 3
        return labels


class Plain(nn.Module):
    """TorchScript, and no InstanSeg at all."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2


class Deaf(nn.Module):
    """Says what it is, but cannot be told what to segment."""

    def __init__(self) -> None:
        super().__init__()
        self.pixel_size, self.cells_and_nuclei = 0.5, False

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1] * self.pixel_size * float(self.cells_and_nuclei)


def scripted(path: Path, module: nn.Module) -> Path:
    torch.jit.save(torch.jit.script(module.eval()), path)
    return path


def test_a_standin_is_found_out(tmp_path: Path) -> None:
    facts = probe(write_standin(tmp_path / "model.pt"))
    assert (facts.outputs, facts.pixel_size_um, facts.channels) == (("nuclei",), 0.5, 3)
    assert facts.stride_px == 8
    assert 23 <= facts.reach_px <= 60
    assert facts.is_fast
    assert ModelFacts.from_json(facts.to_json()) == facts


def test_a_model_of_other_parts_is_taken_but_is_not_fast(tmp_path: Path) -> None:
    facts = probe(scripted(tmp_path / "tiny.pt", Tiny()))
    assert (facts.stride_px, facts.reach_px, facts.is_fast) == (1, 0, False)


@pytest.mark.parametrize(
    ("variant", "reason"),
    [("global", "whole window"), ("far", "whole window"), ("odd", "where a window begins"), ("nan", "not finite")],
)
def test_what_cannot_be_tiled_is_refused(tmp_path: Path, variant: str, reason: str) -> None:
    with pytest.raises(ModelUnusable, match=reason):
        probe(write_standin(tmp_path / "model.pt", variant))


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Plain(), "does not say its pixel_size"),
        (Deaf(), "takes no target_segmentation"),
        (Tiny(pixel_size=8.0), "pixel size is 8 microns"),
        (Tiny(channels=1), "cannot process an RGB window"),
        (Tiny(kind="flat"), "not one label map"),
        (Tiny(kind="fractions"), "whole numbers"),
        (Tiny(kind="random"), "another answer"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_what_is_no_model_for_slides_is_refused(tmp_path: Path, module: nn.Module, reason: str) -> None:
    with pytest.raises(ModelUnusable, match=reason):
        probe(scripted(tmp_path / "model.pt", module))


def test_a_model_that_looks_too_far_is_told_how_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "MOST_REACH_PX", 16)
    with pytest.raises(ModelUnusable, match="around itself; results agree between tiles up to 16 only"):
        probe(write_standin(tmp_path / "model.pt"))


def run_as_a_program(file: Path) -> dict[str, dict[str, object]]:
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-m", "scheduling.instanseg.probe", str(file)], cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )
    (line,) = ended.stdout.splitlines()
    return dict(json.loads(line))


def test_as_a_program_it_answers_in_one_line(tmp_path: Path) -> None:
    class Chatty(Tiny):
        def forward(self, x: Tensor, target_segmentation: Tensor = torch.tensor([1, 1])) -> Tensor:  # noqa: B008
            print('{"facts": {}}')  # noqa: T201
            return (x[:, :1] < 0.45).float()

    found = run_as_a_program(scripted(tmp_path / "chatty.pt", Chatty()))
    assert found["facts"]["outputs"] == ["nuclei"]


@pytest.mark.parametrize("data", [b"", b"not a model", b"PK\x03\x04" + b"\0" * 200])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(data)
    with pytest.raises(ModelUnusable, match="no TorchScript"):
        probe(path)


def test_as_a_program_it_refuses_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"not a model")
    assert "no TorchScript" in str(run_as_a_program(path)["refused"])


def test_a_module_that_only_pickles_is_refused(tmp_path: Path) -> None:
    buffer = BytesIO()
    torch.save({"weights": torch.zeros(3)}, buffer)
    path = tmp_path / "model.pt"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ModelUnusable, match="no TorchScript"):
        probe(path)

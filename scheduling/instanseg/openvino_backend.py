"""A model's network on OpenVINO, where that is installed: in full precision twice as fast on a CPU as torch.

Its answers differ from torch's in the last bits, so which of the two computes is a property of a job, never of the worker at hand.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import torch

from scheduling.instanseg.devices import NO_OPENVINO, has_openvino
from scheduling.instanseg.facts import ModelUnusable

#: More than the order of additions explains (three millionths, measured on InstanSeg's U-Net), less than any mistake.
TOLERANCE = 1e-4


class OpenvinoFields:
    """The network compiled for windows of one size, on as many threads as torch uses."""

    def __init__(self, network: Any, height: int, width: int) -> None:
        """Raises ModelUnusable when OpenVINO is not installed, cannot take the network, or answers otherwise than torch does."""
        if not has_openvino():
            raise ModelUnusable(NO_OPENVINO)
        self._compiled = _compiled(network, height, width)
        #: Largest difference to torch's answer on noise, over the mean of that.
        self.relative_error = self._compared(network, height, width)
        if not self.relative_error <= TOLERANCE:
            raise ModelUnusable(f"OpenVINO's answer differs from torch's by {self.relative_error:.2g} of its mean.")

    def __call__(self, batch: Any) -> Any:
        """float32 (B, channels, h, w) fields of normalised windows, float32 (B, 3, h, w)."""
        answers = [torch.from_numpy(self._compiled(window[None].numpy())[0].copy()) for window in batch]
        return torch.cat(answers)

    def _compared(self, network: Any, height: int, width: int) -> float:
        noise = torch.rand((1, 3, height, width), generator=torch.Generator().manual_seed(1))
        expected = network(noise)
        return float((self(noise) - expected).abs().max() / expected.abs().mean())


def library() -> Any:
    """OpenVINO without its telemetry, which would tell its makers of every use over the network and write to the home folder."""
    # None in its place: importing it fails, and OpenVINO takes its own stub.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


def _compiled(network: Any, height: int, width: int) -> Any:
    openvino = library()
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads(), "NUM_STREAMS": 1}
    shape = [1, 3, height, width]
    try:
        converted = openvino.convert_model(network, example_input=torch.zeros(shape), input=shape)
        return openvino.Core().compile_model(converted, "CPU", options)
    except RuntimeError as error:
        raise ModelUnusable(f"OpenVINO cannot take the model: {error}") from error

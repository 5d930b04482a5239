"""A model's network on OpenVINO, where that is installed: in full precision twice as fast on a CPU as torch.

Its answers differ from torch's in the last bits, so which of the two computes is a property of a job, never of the worker at hand.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

import torch

from scheduling.instanseg.facts import ModelUnusable

NO_OPENVINO = "OpenVINO is not installed on this worker; install it with: pip install openvino"
#: More than the order of additions explains (three millionths, measured on InstanSeg's U-Net), less than any mistake.
TOLERANCE = 1e-4


def is_installed() -> bool:
    """Whether OpenVINO is there; does not load it."""
    return find_spec("openvino") is not None


class OpenvinoFields:
    """The network compiled for windows of one size, on as many threads as torch uses."""

    def __init__(self, network: Any, height: int, width: int) -> None:
        """Raises ModelUnusable when OpenVINO is not installed, cannot take the network, or answers otherwise than torch does."""
        if not is_installed():
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


def _compiled(network: Any, height: int, width: int) -> Any:
    openvino = importlib.import_module("openvino")
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads(), "NUM_STREAMS": 1}
    shape = [1, 3, height, width]
    try:
        converted = openvino.convert_model(network, example_input=torch.zeros(shape), input=shape)
        return openvino.Core().compile_model(converted, "CPU", options)
    except RuntimeError as error:
        raise ModelUnusable(f"OpenVINO cannot take the model: {error}") from error

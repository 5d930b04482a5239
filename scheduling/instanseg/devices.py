"""Which device torch computes on, and whether OpenVINO may in its place. `python -m scheduling.instanseg.devices DEVICE` ends with 0, or with the reason why it cannot."""

from __future__ import annotations

import sys
from importlib.util import find_spec

NO_TORCH = "torch is not installed; install it with: pip install -r requirements-instanseg.txt"
NO_OPENVINO = "OpenVINO is not installed on this worker; install it with: pip install openvino"


def has_torch() -> bool:
    """Whether torch is installed; does not load it."""
    return find_spec("torch") is not None


def has_openvino() -> bool:
    """Whether OpenVINO is installed; does not load it."""
    return find_spec("openvino") is not None


def problem_of(device: str) -> str | None:
    """Why torch cannot compute on `device` here, a value of TORCH_DEVICE ("auto": a CUDA device); None when it can. Loads torch."""
    if not has_torch():
        return NO_TORCH
    import torch  # noqa: PLC0415  (an optional extra)

    if device == "cpu":
        return None
    if not torch.cuda.is_available():
        return "torch sees no CUDA device here"
    number, count = int(device.partition(":")[2] or 0), torch.cuda.device_count()
    return None if number < count else f"torch sees {count} CUDA device{'s' * (count > 1)}, counted from 0: there is no {device}"


if __name__ == "__main__":
    sys.exit(problem_of(sys.argv[1]))

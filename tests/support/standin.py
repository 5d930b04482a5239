"""A stand-in for a trained InstanSeg model: instanseg-torch's own exporter class around a backbone with fixed coefficients.

All that comes after the network is the library's real code (crops, pixel classifier, flood fill, merging); what it segments is
good enough to test with and for nothing else. It is made when a test asks for it and can be chosen nowhere in the product.
"""

from __future__ import annotations

import sys
import warnings
from functools import cache
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: What the backbone does: "nuclei", "cells" (nuclei and cells), "odd" (windows agree only at multiples of 3 pixels),
#: "global" (every pixel depends on the whole window), "far" (looks further than any halo), "nan".
VARIANTS = ("nuclei", "cells", "odd", "global", "far", "nan")
PIXEL_SIZE_UM = 0.5
#: Where instanseg-torch puts and looks for brightfield_nuclei below INSTANSEG_BIOIMAGEIO_PATH.
RELEASED = Path("brightfield_nuclei") / "0.1.1" / "instanseg.pt"

_SHIFT_RADIUS, _SHIFT_SIGMA = 11, 4.5
#: A coordinate of InstanSeg's fields is a quarter of a pixel.
_COORDINATE = 0.25


def write_standin(path: Path, variant: str = "nuclei") -> Path:
    """Write the stand-in as TorchScript; the same variant always gives the same bytes in a session."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(standin_bytes(variant))
    return path


@cache
def standin_bytes(variant: str = "nuclei") -> bytes:
    """The TorchScript file of a variant; takes a few seconds the first time."""
    exporter = library()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = exporter.InstanSeg_Torchscript(
            _Backbone(variant, exporter.ProbabilityNet(4, 5)), cells_and_nuclei=variant == "cells", pixel_size=PIXEL_SIZE_UM, n_sigma=2
        )
        buffer = BytesIO()
        torch.jit.save(torch.jit.script(made), buffer)
    return buffer.getvalue()


def library() -> Any:
    """The module that holds the exporter. Its neighbours import seaborn, which only their plots use: an empty module will do."""
    absent = [name for name in ("seaborn", "pandas", "matplotlib", "matplotlib.pyplot") if not _is_there(name)]
    sys.modules.update({name: ModuleType(name) for name in absent})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from instanseg.utils.loss import instanseg_loss
    finally:
        for name in absent:
            del sys.modules[name]
    return instanseg_loss


def _is_there(name: str) -> bool:
    try:
        __import__(name)
    except ImportError:
        return False
    return True


class _Backbone(nn.Module):
    """(B, 3, H, W) normalised RGB -> (B, 5 or 10, H, W): shift x, shift y, foreground logit, nothing, seed map; the same again for cells."""

    def __init__(self, variant: str, classifier: nn.Module) -> None:
        super().__init__()
        self.variant = variant
        self.pool = 3 if variant == "odd" else 8
        self.pixel_classifier = _by_distance(classifier)
        steps = torch.arange(-_SHIFT_RADIUS, _SHIFT_RADIUS + 1).float()
        weights = _gaussian(_SHIFT_SIGMA, _SHIFT_RADIUS)
        self.register_buffer("fine", _gaussian(1.0, 3))
        self.register_buffer("blob", _gaussian(2.0, 6))
        self.register_buffer("wide", _gaussian(3.5, 10))
        self.register_buffer("shift", weights)
        self.register_buffer("slope", weights * steps)

    def forward(self, x: Tensor) -> Tensor:
        """The channels of InstanSeg_UNet([[2, 2, 1]]), or of two of them."""
        dark = torch.clamp(1 - x[:, :1], 0, 1.2)
        around = self._around(dark)
        standing_out = _blur(dark, self.fine, self.fine) - around - 0.12
        inside = torch.sigmoid(standing_out * 25)
        seeds = (_blur(inside, self.blob, self.blob) - 0.48) * 15
        nuclei = self._fields(inside, torch.clamp(standing_out * 40, -6, 6), seeds)
        if self.variant == "nan":
            return nuclei / torch.zeros_like(nuclei)
        if self.variant != "cells":
            return nuclei
        near = _blur(inside, self.wide, self.wide)
        return torch.cat([nuclei, self._fields(near, torch.clamp((near - 0.25) * 30, -6, 6), seeds)], 1)

    def _around(self, dark: Tensor) -> Tensor:
        """How dark it is around, from a coarser level, as a U-Net sees it."""
        if self.variant == "global":
            return dark.mean(dim=(2, 3), keepdim=True) + torch.zeros_like(dark)
        coarse = F.avg_pool2d(dark, self.pool, ceil_mode=True, count_include_pad=False)
        for _ in range(24 if self.variant == "far" else 1):
            coarse = F.avg_pool2d(coarse, 5, stride=1, padding=2, count_include_pad=False)
        return F.interpolate(coarse, scale_factor=float(self.pool), mode="nearest")[:, :, : dark.shape[2], : dark.shape[3]]

    def _fields(self, weight: Tensor, logit: Tensor, seeds: Tensor) -> Tensor:
        """Every pixel points to the weighted mean of what is around it."""
        total = _blur(weight, self.shift, self.shift) + 1e-3
        across = _blur(weight, self.shift, self.slope) / total
        down = _blur(weight, self.slope, self.shift) / total
        shift = torch.clamp(torch.cat([across, down], 1) * 1.6 * _COORDINATE / 8 + 0.5, 0.02, 0.98)
        return torch.cat([torch.log(shift / (1 - shift)), logit, torch.zeros_like(logit), seeds], 1)


def _by_distance(classifier: Any) -> nn.Module:
    """Weights by hand: the foreground logit less the L1 distance of the shifted pixel to the shifted seed."""
    with torch.no_grad():
        first = torch.zeros(5, 4)
        first[0, 0], first[1, 0], first[2, 1], first[3, 1], first[4, 2] = 1, -1, 1, -1, 1
        classifier.fc1.weight.copy_(first)
        classifier.fc1.bias.copy_(torch.tensor([0.0, 0, 0, 0, 8]))
        classifier.fc2.weight.copy_(torch.eye(5))
        classifier.fc2.bias.zero_()
        classifier.fc3.weight.copy_(torch.tensor([[-2.0, -2, -2, -2, 1]]))
        classifier.fc3.bias.fill_(-8 + 2.5)
    for parameter in classifier.parameters():
        parameter.requires_grad_(False)
    return classifier


def _gaussian(sigma: float, radius: int) -> Tensor:
    steps = torch.arange(-radius, radius + 1).float()
    weights = torch.exp(-(steps**2) / (2 * sigma**2))
    return weights / weights.sum()


def _blur(x: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Separable, with zeros outside."""
    radius = down.shape[0] // 2
    x = F.conv2d(x, down.view(1, 1, -1, 1), padding=(radius, 0))
    return F.conv2d(x, across.view(1, 1, 1, -1), padding=(0, radius))

"""An InstanSeg model on a device: windows of a slide in, label maps out; what instanseg-torch does with one small image, called directly.

The model's own forward decides what an object is. Where probing has shown that the fast post-processing gives the same labels,
only its network is run and that is used instead.
"""

from __future__ import annotations

import hashlib
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scheduling.instanseg.facts import ModelFacts, ModelUnusable
from scheduling.instanseg.normalisation import Normalisation
from scheduling.instanseg.openvino_backend import OpenvinoFields
from scheduling.instanseg.postprocess import FastLabels
from scheduling.instanseg.threads import granted
from scheduling.slides.nuclei.contours import Labels
from scheduling.slides.reading.interface import RGB

_KEPT = 2
_WHOLE_PX = 16
_CONVERSIONS: dict[str, type] = {"int": int, "float": float, "bool": bool}


@dataclass(frozen=True)
class Inferred:
    """What the device has computed of one window: the network's fields, float (channels, h, w), or labels, float (outputs, h, w)."""

    values: Any
    is_fields: bool


class Network:
    """One model, loaded. Not for several threads at once, except that `finish` may run beside `infer`."""

    def __init__(self, module: Any, facts: ModelFacts, device: str = "cpu", *, backend: str = "torch", as_model: bool = False) -> None:
        """`backend`: "torch", or "openvino" on the device "cpu", which only a fast model can use.

        `as_model`: the fast post-processing rounds as the model's own forward does; only to compare the two.
        """
        self.facts, self.device, self.backend = facts, device, backend
        self._openvino: dict[tuple[int, int], OpenvinoFields] = {}
        self.module = module.eval()
        if self.is_cuda:
            self.module = self.module.to(memory_format=torch.channels_last)
        self._types = _settable(self.module)
        self._fast = FastLabels.of(self.module, facts.has_cells, as_model=as_model) if facts.is_fast else None

    @classmethod
    def load(cls, path: Path, facts: ModelFacts, device: str = "cpu", *, backend: str = "torch", as_model: bool = False) -> Network:
        """Raises ModelUnusable when the file is not the one that the facts are about, or is no TorchScript."""
        _use_granted_cores()
        return cls(load_module(path, facts.sha256, device), facts, device, backend=backend, as_model=as_model)

    @property
    def is_fast(self) -> bool:
        """Whether the fast post-processing fits this model."""
        return self._fast is not None

    @property
    def is_cuda(self) -> bool:
        return self.device.startswith("cuda")

    def labels(self, rgb: RGB, norm: Normalisation, settings: Mapping[str, float]) -> tuple[Labels, Labels | None]:
        """int32 (h, w) labels of the nuclei in a window, uint8 (h, w, 3) at model resolution, 0 = background, and of whole cells.

        A nucleus and the cell around it have the same number; numbers may be left out. `settings` are arguments of the
        model's own forward by name; those that it does not know are ignored.
        """
        return self.finish(self.infer([rgb], norm, settings)[0], settings)

    def infer(self, windows: Sequence[RGB], norm: Normalisation, settings: Mapping[str, float]) -> list[Inferred]:
        """The device's part of windows of one size, uint8 (h, w, 3). Raises torch.OutOfMemoryError on a device."""
        with torch.inference_mode(), self._autocast(), quiet():
            batch = self._normalised(windows, norm)
            if self._can_be_fast(windows[0], settings):
                return [Inferred(fields, True) for fields in self._fields(batch)]
            arguments = self._arguments(settings)
            return [Inferred(self.module(window[None].clone(), **arguments)[0], False) for window in batch]

    def finish(self, inferred: Inferred, settings: Mapping[str, float]) -> tuple[Labels, Labels | None]:
        """The labels, as `labels` returns them, of one entry of what `infer` returned."""
        with torch.inference_mode():
            if self._fast is not None and inferred.is_fields:
                return self._fast.labels(inferred.values.float(), settings)
            nuclei, *cells = inferred.values.cpu().numpy().astype(np.int32)
            return nuclei, cells[0] if cells else None

    def warm_up(self, window_px: int, batch: int = 1) -> None:
        """Let a device choose and compile its kernels for windows of this width, so that no task's time counts it."""
        white = np.full((window_px, window_px, 3), 255, np.uint8)
        flat = Normalisation(low=(0.0, 0.0, 0.0), high=(255.0, 255.0, 255.0))
        for _ in range(3):  # TorchScript watches two calls before it settles.
            self.infer([white] * batch, flat, {})

    def prepare(self, window_px: int, settings: Mapping[str, float]) -> None:
        """What must be there before windows of this width come: on OpenVINO the compiled network. Raises ModelUnusable."""
        if self.backend == "openvino":
            if self._fast is None or not self._fast.can(window_px, window_px, settings):
                raise ModelUnusable(f"OpenVINO cannot compute the model {self.facts.name} with these settings; torch can.")
            whole_px = window_px + -window_px % _WHOLE_PX
            self.openvino_of(whole_px, whole_px)

    def openvino_of(self, height: int, width: int) -> OpenvinoFields:
        """The network compiled for windows of this size, and compared with torch's; the last one is kept. Raises ModelUnusable."""
        if (height, width) not in self._openvino:
            self._openvino = {(height, width): OpenvinoFields(self.module.fcn, height, width)}
        return self._openvino[height, width]

    def _fields(self, batch: Any) -> Any:
        """(B, channels, h, w). The network takes whole multiples of 16 pixels; the model's forward mirrors the rest, and so do we."""
        height, width = batch.shape[2:]
        if height % _WHOLE_PX or width % _WHOLE_PX:
            batch = torch.nn.functional.pad(batch, [0, -width % _WHOLE_PX, 0, -height % _WHOLE_PX], mode="reflect")
        found = self.module.fcn(batch) if self.backend == "torch" else self.openvino_of(*batch.shape[2:])(batch)
        return found[:, :, :height, :width]

    def _can_be_fast(self, rgb: RGB, settings: Mapping[str, float]) -> bool:
        return self._fast is not None and self._fast.can(rgb.shape[0], rgb.shape[1], settings)

    def _normalised(self, windows: Sequence[RGB], norm: Normalisation) -> Any:
        """float32 (B, 3, h, w). The bytes travel to the device, and become numbers there."""
        pixels = torch.from_numpy(np.stack(windows))
        table = torch.from_numpy(norm.table()).to(self.device)
        if self.is_cuda:
            pixels = pixels.pin_memory().to(self.device, non_blocking=True)
        channels = [table[channel][pixels[..., channel].long()] for channel in range(3)]
        batch = torch.stack(channels, dim=1).clamp_(-2, 3)
        return batch.contiguous(memory_format=torch.channels_last) if self.is_cuda else batch

    def _autocast(self) -> Any:
        return torch.autocast("cuda", dtype=torch.float16) if self.is_cuda else torch.autocast("cpu", enabled=False)

    def _arguments(self, settings: Mapping[str, float]) -> dict[str, Any]:
        known = {name: self._types[name](value) for name, value in settings.items() if name in self._types}
        return {"target_segmentation": torch.tensor([1, 1]), **known}


def load_module(path: Path, sha256: str | None = None, device: str = "cpu") -> Any:
    """The TorchScript module of a file. Raises ModelUnusable, also when its hash is not `sha256`."""
    data = path.read_bytes()
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise ModelUnusable("The model's file has changed since it was installed; install the model again.")
    try:
        with quiet():
            return torch.jit.load(BytesIO(data), map_location=device)
    except (RuntimeError, ValueError) as error:
        raise ModelUnusable(f"The file is no TorchScript model that this version of torch ({torch.__version__}) can read.") from error


_networks: OrderedDict[tuple[str, str, str], Network] = OrderedDict()
_networks_lock = threading.Lock()


def network_of(path: Path, facts: ModelFacts, device: str = "cpu", backend: str = "torch") -> Network:
    """The process's own copy of a model; the two used last are kept. Raises ModelUnusable."""
    key = (facts.sha256, device, backend)
    with _networks_lock:
        if key not in _networks:
            while len(_networks) >= _KEPT:
                _networks.popitem(last=False)
            _networks[key] = Network.load(path, facts, device, backend=backend)
        _networks.move_to_end(key)
        return _networks[key]


def _settable(module: Any) -> dict[str, type]:
    """The plain numbers that a model's forward takes, and their types. Raises ModelUnusable when it has no such method."""
    try:
        arguments = module.forward.schema.arguments
    except (AttributeError, RuntimeError) as error:
        raise ModelUnusable("The model has no forward that can be called.") from error
    named = {argument.name: str(argument.type).removeprefix("Optional[").removesuffix("]") for argument in arguments}
    return {name: _CONVERSIONS[kind] for name, kind in named.items() if kind in _CONVERSIONS}


def _use_granted_cores() -> None:
    """As many threads as the worker was granted; elsewhere as many as torch likes."""
    threads = granted()
    if threads is not None:
        torch.set_num_threads(threads)


@contextmanager
def quiet() -> Iterator[None]:
    """Without what torch says to everybody who runs TorchScript or a sparse product; nobody who reads the log can act on it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        warnings.filterwarnings("ignore", "Sparse CSR", UserWarning)
        yield

"""What probing has found out about an installed model: all that the rest needs to know of it without loading it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import orjson

#: What a model can outline, in the order in which it returns them.
NUCLEI, CELLS = "nuclei", "cells"


class ModelUnusable(Exception):
    """A model file cannot be used: it is no TorchScript InstanSeg model, not the file that was installed, or cannot be tiled safely.

    The message is for the person who chose the model.
    """


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """Found once, when a model is installed, and kept beside its file."""

    #: As installed, of the characters A-Z a-z 0-9 . _ -, at most 64.
    name: str
    #: Of the TorchScript file, hex.
    sha256: str
    #: Microns per model pixel.
    pixel_size_um: float
    #: ("nuclei",) or ("nuclei", "cells").
    outputs: tuple[str, ...]
    channels: int
    #: A window must begin, and its size be, a multiple of it.
    stride_px: int
    #: How far from a pixel lie the input pixels that decide on the network's output there; the halo must hold it.
    reach_px: int
    #: Width of the window at which the model was probed.
    window_px: int
    #: Whether the fast post-processing gave the model's own labels, bit for bit, on every window of the probe.
    is_fast: bool
    #: Version of torch that it was probed with.
    torch: str
    #: UTC, ISO 8601.
    installed_at: str

    @property
    def has_cells(self) -> bool:
        """Whether it outlines whole cells beside nuclei."""
        return CELLS in self.outputs

    def to_json(self) -> bytes:
        """Canonical bytes."""
        return orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)

    @classmethod
    def from_json(cls, data: bytes) -> ModelFacts:
        """Inverse of to_json. Raises ValueError for anything else."""
        values: dict[str, Any] = orjson.loads(data)
        try:
            return cls(**values | {"outputs": tuple(values["outputs"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"no facts of a model: {error}") from error

"""The plan of a segmentation as it is published: where the tiles are, and what holds for all of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from scheduling.slides.nuclei.stain import Stains
from scheduling.slides.reading.scale import Scale, from_text, plain, to_text
from scheduling.slides.reading.tiling import Grid


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How a segmentation cuts a slide; pixels of `downsample` full-resolution pixels."""

    downsample: Scale
    core_px: int
    halo_px: int


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Published once by planning, first one wins, and read back by every worker: a pure function of slide, mask and parameters."""

    grid: Grid
    #: Core numbers of the tiles, in order.
    cores: tuple[int, ...]
    #: Full-resolution pixels in a model pixel, and in a pixel of the mask.
    downsample: Scale
    mask_downsample: int
    #: Turns colours of this slide into stain densities, for the measurements.
    stains: Stains
    #: What else the job type has fixed for the whole slide (thresholds, normalisation); plain JSON.
    constants: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def full_px(self, model_px: int) -> int | float:
        """So many model pixels in full-resolution pixels."""
        return plain(model_px * self.downsample)

    def to_json(self) -> bytes:
        """Canonical bytes."""
        return orjson.dumps(asdict(self) | {"downsample": to_text(self.downsample)}, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def from_json(cls, data: bytes) -> Layout:
        """Inverse of to_json. Raises ValueError for what an earlier version published."""
        values = orjson.loads(data)
        if "stains" not in values:
            raise ValueError("a layout of an earlier version")
        values |= {
            "grid": Grid(**values["grid"]),
            "stains": Stains.from_json(values["stains"]),
            "downsample": from_text(values["downsample"]),
        }
        return cls(**values | {"cores": tuple(values["cores"]), "warnings": tuple(values["warnings"])})

"""Slides by OpenSlide. Its associated images (label, macro) carry patient data and are never touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide

from scheduling.slides.interface import RGB, Level, SlideReader, mean_mpp, over_white

_CACHE_BYTES = 64 * 1024 * 1024


class OpenSlideReader(SlideReader):
    """Everything OpenSlide knows: Aperio, Hamamatsu, MIRAX, Leica, Philips, DICOM, Zeiss, generic tiled TIFF, …"""

    def __init__(self, path: Path) -> None:
        self._slide = openslide.OpenSlide(str(path))
        self._slide.set_cache(openslide.OpenSlideCache(_CACHE_BYTES))
        self.width, self.height = self._slide.dimensions
        properties = dict(self._slide.properties)
        self.mpp = mean_mpp(
            _number(properties.get(openslide.PROPERTY_NAME_MPP_X)) or _mpp_of_resolution(properties, "X"),
            _number(properties.get(openslide.PROPERTY_NAME_MPP_Y)) or _mpp_of_resolution(properties, "Y"),
        )
        self.format = properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")
        self.levels = tuple(
            Level(width=size[0], height=size[1], downsample=float(downsample))
            for size, downsample in zip(self._slide.level_dimensions, self._slide.level_downsamples, strict=True)
        )

    def _read(self, x: int, y: int, width: int, height: int, level: int) -> RGB:
        return over_white(np.asarray(self._slide.read_region((x, y), level, (width, height))))

    def close(self) -> None:
        super().close()
        self._slide.close()


def _mpp_of_resolution(properties: dict[str, str], axis: str) -> float | None:
    """Microns per pixel by OpenSlide's copy of the TIFF resolution tags."""
    resolution = _number(properties.get(f"tiff.{axis}Resolution"))
    microns = {"centimeter": 10_000.0, "inch": 25_400.0}.get(properties.get("tiff.ResolutionUnit", ""))
    return microns / resolution if microns and resolution else None


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None

"""Slides by OpenSlide. Its associated images (label, macro) carry patient data and are never touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openslide

from scheduling.slides.reading.interface import RGB, Level, SlideReader, over_white
from scheduling.slides.reading.resolution import Statement, number, resolution

_CACHE_BYTES = 64 * 1024 * 1024


class OpenSlideReader(SlideReader):
    """Everything OpenSlide knows: Aperio, Hamamatsu, MIRAX, Leica, Philips, DICOM, Zeiss, …"""

    def __init__(self, path: Path) -> None:
        self._slide = openslide.OpenSlide(str(path))
        self._slide.set_cache(openslide.OpenSlideCache(_CACHE_BYTES))
        self.width, self.height = self._slide.dimensions
        properties = dict(self._slide.properties)
        self.format = properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")
        self.resolution = resolution(_statements(properties))
        self.mpp = self.resolution.mpp
        self.levels = tuple(
            Level(width=size[0], height=size[1], downsample=float(downsample))
            for size, downsample in zip(self._slide.level_dimensions, self._slide.level_downsamples, strict=True)
        )

    def _read(self, x: int, y: int, width: int, height: int, level: int) -> RGB:
        # Between two pixels of a level OpenSlide blends them: ask where one begins, as nearly as whole coordinates can say it.
        downsample = self.levels[level].downsample
        corner = (round(round(x / downsample) * downsample), round(round(y / downsample) * downsample))
        return over_white(np.asarray(self._slide.read_region(corner, level, (width, height))))

    def close(self) -> None:
        super().close()
        self._slide.close()


def _statements(properties: dict[str, str]) -> Iterator[Statement]:
    """What OpenSlide makes of the format; where it is silent, its copy of the resolution tags."""
    mpp = [number(properties.get(name)) for name in (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)]
    yield Statement(source="openslide.mpp-x", x=mpp[0], y=mpp[1])
    unit = {"centimeter": 10_000.0, "inch": 25_400.0}.get(properties.get("tiff.ResolutionUnit", ""))
    if unit is not None and not any(mpp):
        tags = [number(properties.get(f"tiff.{axis}Resolution")) for axis in "XY"]
        yield Statement(source="tiff.XResolution", x=unit / tags[0] if tags[0] else None, y=unit / tags[1] if tags[1] else None)

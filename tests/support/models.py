"""Facts of models that were never probed, and windows that look like H&E, for tests of what uses models."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from scheduling.instanseg.facts import ModelFacts
from scheduling.slides.reading.interface import RGB
from scheduling.slides.reading.reader import open_slide
from scheduling.slides.synthetic.slide import write_sample

MADE_UP = ModelFacts(
    name="made-up",
    sha256="0" * 64,
    pixel_size_um=0.5,
    outputs=("nuclei",),
    channels=3,
    stride_px=8,
    reach_px=92,
    window_px=512,
    is_fast=False,
    torch="2.13.0",
    installed_at="2026-01-01T00:00:00Z",
)


def facts_of(*outputs: str, file: bytes = b"", **more: object) -> ModelFacts:
    """Facts with these outputs, and the hash of these bytes."""
    return replace(MADE_UP, outputs=outputs, sha256=hashlib.sha256(file).hexdigest(), **more)  # type: ignore[arg-type]


@cache
def tissue(width: int = 512, height: int = 512, seed: int = 3) -> RGB:
    """uint8 (height, width, 3): the middle of a synthetic slide, with glands, stroma and nuclei, at 0.5 microns per pixel."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "made.tif"
        write_sample(path, width=2048, height=1536, seed=seed)
        pixels = open_slide(path).read((2048 - width) // 2, (1536 - height) // 2, width, height).copy()
    pixels.setflags(write=False)
    return pixels

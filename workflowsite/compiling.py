"""Which modules have kernels still to compile. A host that has done so for this version of the code need not find out again, which takes seconds."""

from __future__ import annotations

import platform
from contextlib import suppress
from pathlib import Path

from scheduling.instanseg import devices

#: Names of the steps of a start, and the modules that they run, with arguments. They run side by side.
MODULES = {
    "warm-nuclei": ("scheduling.slides.warm", "nuclei"),
    "warm-cells": ("scheduling.slides.warm", "cells"),
    "warm-models": ("scheduling.instanseg.warm",),
}


def due(cache: Path) -> dict[str, tuple[str, ...]]:
    """Those of MODULES that this host has not compiled into `cache`, the folder of this version."""
    return {name: module for name, module in MODULES.items() if not _note(cache, name).exists()}


def done(cache: Path, name: str) -> None:
    """Note that one of them is compiled. Where that cannot be written it is found out again."""
    with suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        _note(cache, name).touch()


def _note(cache: Path, name: str) -> Path:
    """Kernels are of one kind of processor; those of models are compiled only where torch is."""
    return cache / f"{name}.{'torch' if devices.has_torch() else 'plain'}.{platform.node()}"

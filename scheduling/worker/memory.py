"""Memory for images: what a process has freed stays with it, as fresh pages for each window can cost more than computing on it."""

from __future__ import annotations

import ctypes
import sys

#: Arguments of mallopt (glibc's malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: glibc takes no more than this for what comes from the process's own heap.
_LARGEST = 32 << 20
_KEPT = 256 << 20


def keep_freed() -> bool:
    """Let this process and its children keep up to 256 MiB that they have freed; whether the C library can be told so (glibc)."""
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_MMAP_THRESHOLD, _LARGEST)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT))


def give_back() -> None:
    """Give what this process has freed back to the system (glibc; Arrow's own pool everywhere)."""
    if (arrow := sys.modules.get("pyarrow")) is not None:
        arrow.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)

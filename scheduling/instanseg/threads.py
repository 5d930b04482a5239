"""How many cores one process may use for a model: a worker divides them among its children; knows no torch, which is slow to load."""

from __future__ import annotations

import os

#: Read when a network is loaded; unset: as many as torch likes.
THREADS_VARIABLE = "TORCH_NUM_THREADS"


def share_cores(processes: int) -> None:
    """Give each of so many processes its share, at least one core, unless the variable is set already."""
    os.environ.setdefault(THREADS_VARIABLE, str(max(1, _cores() // max(1, processes))))


def granted() -> int | None:
    """The share of this process; None when nobody has set it."""
    value = os.environ.get(THREADS_VARIABLE)
    return int(value) if value else None


def _cores() -> int:
    """Those that this process may run on, which in a container may be fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

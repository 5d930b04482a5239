"""Processes that tests have started, directly or not."""

from __future__ import annotations

import psutil


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended may wait for its parent to ask."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

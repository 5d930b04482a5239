"""Wait for a condition of another process, with an end that names what did not happen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: What is waited for comes within seconds on an idle machine; a busy one is no reason to fail.
PATIENCE_S = 180.0


def eventually(condition: Callable[[], T], what: str, within_s: float = PATIENCE_S) -> T:
    """Ask until the condition is true and return its value; AssertionError says what never came."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {within_s:g} s")
        time.sleep(0.01)
    return value

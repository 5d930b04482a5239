"""A program of `make run` loads its code while the database is prepared beside it, and touches the database only then.

The starter keeps the other end of a pipe and closes it when all is prepared; whoever comes later finds it closed.
"""

from __future__ import annotations

import os
from contextlib import suppress

VARIABLE = "PREPARED_FD"


def wait() -> None:
    """Return when the database is prepared; at once in a program that nobody told to wait."""
    descriptor = os.environ.pop(VARIABLE, "")
    if not descriptor:
        return
    with suppress(OSError):
        while os.read(int(descriptor), 1):
            pass
        os.close(int(descriptor))

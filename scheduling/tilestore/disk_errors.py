"""Whether an error is the disk's and may pass: full, away, or failing. No tile is to blame then, and waiting may help."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from scheduling.slides.reading.places import RootAway

_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EROFS)
#: Made once when an installation begins; a folder of these that is missing later is a share that is not mounted.
ROOTS = ("results", "tiles")


def refusal_of(error: BaseException) -> str:
    """Why the disk refuses, in the words of the system, from the error or any that led to it; "" when it was not the disk."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, OSError) and cause.errno in _PASSING:
            return os.strerror(cause.errno).lower()
        if isinstance(cause, RootAway):
            return str(cause)
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return ""


def make_roots(data_dir: Path) -> None:
    """Make the folders around all jobs when an installation begins: only when there is none of them yet."""
    if not any((data_dir / name).exists() for name in ROOTS):
        for name in ROOTS:
            (data_dir / name).mkdir(parents=True, exist_ok=True)


def missing_root(data_dir: Path) -> str:
    """Which folder around all jobs is not there, in words; "" when they all are."""
    missing = next((name for name in ROOTS if not (data_dir / name).is_dir()), None)
    return "" if missing is None else f"the folder {missing} is not there"

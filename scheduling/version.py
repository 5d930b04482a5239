"""Which code this is: the release, and a digest of the source that decides what a worker computes and says.

Workers of another version get no bundles; two checkouts of one release that differ by an edit differ here too.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from scheduling import __version__

_ROOM = Path(__file__).resolve().parent
#: What leader and workers must have in common.
SHARED = ("worker", "protocol", "jobtypes", "viewer", "tilestore", "instanseg", "slides")
DIGITS = 12


@cache
def code_version() -> str:
    """Such as "0.1.0+3f2a09c1d4be"; computed once in each process."""
    digest = hashlib.sha256()
    for file in sorted(file for name in SHARED for file in _files(_ROOM / name)):
        digest.update(f"{file.relative_to(_ROOM)}\0".encode() + file.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:DIGITS]}"


def broker_prefix() -> str:
    """What the broker's keys begin with: the queues of another version are other queues."""
    return f"{code_version()}/"


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else list(path.rglob("*.py"))

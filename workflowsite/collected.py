"""Static files, collected and compressed once for an environment and copied into each DATA_DIR: to collect them takes seconds.

What they are made of is known without Django: the project's own files, and the packages that are installed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import sysconfig
from contextlib import suppress
from functools import cache
from pathlib import Path

from scheduling.env import BASE_DIR

#: Inside the environment: a new one collects again.
KEPT = Path(sys.prefix) / "share" / "collected-static"
_OWN = ("static", "workflowsite/static.py", "workflowsite/settings.py")
_NOTE = ".digest"
_DIGITS = 16


@cache
def digest() -> str:
    """Of everything that collected files depend on: names, sizes and times of the project's own, versions of the packages."""
    packages = sorted(path.name for path in Path(sysconfig.get_paths()["purelib"]).glob("*.dist-info"))
    found = hashlib.sha256("\n".join([sys.version, *packages]).encode())
    for place in _OWN:
        root = BASE_DIR / place
        for file in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if file.is_file():
                found.update(f"\0{file} {file.stat().st_size} {file.stat().st_mtime_ns}".encode())
    return found.hexdigest()[:_DIGITS]


def restore(target: Path) -> bool:
    """Have the files of this digest in `target`, if they are there already or were kept. Raises OSError when it cannot be written."""
    if _said(target) == digest():
        return True
    kept = KEPT / digest()
    if _said(kept) != digest():
        return False
    # The note goes last: what was copied in part is copied again.
    shutil.copytree(kept, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(_NOTE))
    note(target)
    return True


def keep(target: Path) -> None:
    """Note what has been collected into `target` and keep a copy for other folders; the copies of other digests go."""
    note(target)
    kept, partial = KEPT / digest(), KEPT / f".{digest()}.{os.getpid()}"
    with suppress(OSError):  # an environment that cannot be written: each folder collects for itself
        KEPT.mkdir(parents=True, exist_ok=True)
        for other in KEPT.iterdir():
            shutil.rmtree(other, ignore_errors=True)
        shutil.copytree(target, partial)
        partial.rename(kept)
    shutil.rmtree(partial, ignore_errors=True)


def note(target: Path) -> None:
    """Say that `target` holds the files of this digest."""
    (target / _NOTE).write_text(digest())


def _said(folder: Path) -> str:
    try:
        return (folder / _NOTE).read_text()
    except OSError:
        return ""

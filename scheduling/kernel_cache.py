"""Where numba's compiled kernels lie: beside the environment, one folder for each version of their code and kind of processor.

Only what kernels are made of decides the version: an edit elsewhere compiles nothing again. Where the environment cannot be written,
the folder lies in DATA_DIR; NUMBA_CACHE_DIR names another one. Imports nothing of numba.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from scheduling.version import DIGITS

_ROOM = Path(__file__).resolve().parent
BESIDE = _ROOM.parent / ".kernels"
VARIABLE = "NUMBA_CACHE_DIR"
#: What compiles them: these modules run every kernel, so whatever a kernel is made of is among what they import.
WARMING = ("slides/warm.py", "instanseg/warm.py")
#: Folders of other versions that nobody has used for so long, and nobody uses now, are removed.
KEPT_S = 7 * 86_400.0
_IN_USE, _COMPILING = "in-use", "compiling"
#: A module or package of the product, and the names that are taken from it, which may be modules themselves.
_IMPORT = re.compile(r"^\s*from scheduling\.([\w.]+) import (?:\(([^)]*)\)|(.*))$", re.MULTILINE)


def folder(data_dir: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of this code on this processor, made if need be."""
    if given := environ.get(VARIABLE):
        return Path(given)
    beside, within = BESIDE / key(), data_dir / "numba" / key()
    if _can_be_written(beside):
        return beside
    if beside.is_dir() and not within.exists():
        _copy(beside, within)
    return within


@cache
def key() -> str:
    """Names the folder: the digest of the code that kernels are made of, and that of the processor."""
    code = hashlib.sha256(f"{sys.version} numba {version('numba')} llvmlite {version('llvmlite')}".encode())
    for file in sources():
        code.update(f"\0{file.relative_to(_ROOM)}\0".encode() + file.read_bytes())
    return f"{code.hexdigest()[:DIGITS]}-{hashlib.sha256(processor().encode()).hexdigest()[:DIGITS]}"


@cache
def sources() -> tuple[Path, ...]:
    """What the warming modules import of the product, directly or not, and they themselves."""
    found: set[Path] = set()
    waiting = [_ROOM / name for name in WARMING]
    while waiting:
        file = waiting.pop()
        if file not in found and file.is_file():
            found.add(file)
            waiting += _imported(file.read_text())
    return tuple(sorted(found))


def _imported(code: str) -> Iterator[Path]:
    """Files that the code may import of the product."""
    for module, several, one in _IMPORT.findall(code):
        place = _ROOM / module.replace(".", "/")
        yield from (place.with_suffix(".py"), place / "__init__.py")
        yield from (place / f"{name}.py" for name in re.findall(r"\w+", several or one))


def processor() -> str:
    """The kind of this processor and what it can do, as the system tells it."""
    lines: tuple[str, ...] = ()
    with suppress(OSError):
        lines = tuple(Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines())
    told = [line for line in lines if line.startswith(("model name", "flags", "Features", "CPU "))]
    return "\n".join([platform.machine(), platform.processor(), platform.mac_ver()[0], *told])


def is_complete(folder: Path) -> bool:
    """Whether every kernel has been compiled into the folder, of the files as they lie there now."""
    return _note(folder).exists()


def complete(folder: Path) -> None:
    """Note that every kernel has been compiled into it."""
    for old in folder.glob("complete-*"):
        old.unlink(missing_ok=True)
    _note(folder).touch()


def _note(folder: Path) -> Path:
    """numba compiles again what was touched, even if it is the same as before; kernels of models are compiled only where torch is."""
    stamps = "".join(f"{file} {file.stat().st_mtime_ns} {file.stat().st_size}\n" for file in sources())
    return folder / f"complete-{'torch' if find_spec('torch') else 'plain'}-{hashlib.sha256(stamps.encode()).hexdigest()[:DIGITS]}"


@contextmanager
def compiling(folder: Path) -> Iterator[None]:
    """While this process compiles into the folder; others wait for it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _COMPILING).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def use(folder: Path) -> int:
    """Say that this process uses the folder, until it ends or closes the descriptor; nobody drops it meanwhile. -1 where it cannot say so."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / _IN_USE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.utime(descriptor)
    except OSError:
        return -1
    return descriptor


def drop_others(folder: Path, now: float | None = None) -> None:
    """Remove the folders beside this one that nobody uses, nor has used for KEPT_S."""
    for other in folder.parent.iterdir():
        if other.is_dir() and other != folder and re.fullmatch(rf"[0-9a-f]{{{DIGITS}}}-[0-9a-f]{{{DIGITS}}}", other.name):
            _drop(other, time.time() if now is None else now)


def _drop(other: Path, now: float) -> None:
    with suppress(OSError), (other / _IN_USE).open("r+") as file:
        if now - os.fstat(file.fileno()).st_mtime > KEPT_S:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(other, ignore_errors=True)


def _can_be_written(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _copy(source: Path, target: Path) -> None:
    """What was compiled when the environment was made, an image say. numba uses no folder that it cannot write."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copytree(source, partial)
    try:
        partial.rename(target)
    except OSError:  # another process was first
        shutil.rmtree(partial, ignore_errors=True)

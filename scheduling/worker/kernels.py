"""Compile every kernel once, load what was compiled, and say meanwhile why work on slides has to wait.

`python -m scheduling.worker.kernels` compiles into NUMBA_CACHE_DIR; several that do so at once wait for the first of them.
"""

from __future__ import annotations

import logging
import mmap
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

from scheduling import kernel_cache
from scheduling.launch import follow_parent

logger = logging.getLogger(__name__)

#: What is compiled side by side: about the same work each, so that two processes are done in half the time.
PARTS = ("nuclei", "cells", "models")
WAITING = "the kernels of this version are being compiled"
#: After this, work goes on even so: whoever needs a kernel that is not there compiles it.
PATIENCE_S = 420.0
MODULE = "scheduling.worker.kernels"
#: The rest of a start goes first.
NICE = 10
_LIST = "kernels.pickle"
_ROOT = Path(__file__).resolve().parents[2]


# -- compiling


def compile_all(folder: Path) -> None:
    """Compile what is missing, in processes of their own. Raises CalledProcessError."""
    with kernel_cache.compiling(folder):
        if kernel_cache.is_complete(folder):
            return
        for step in (PARTS, ("list",)):
            _run(step, folder)
        kernel_cache.complete(folder)
    kernel_cache.drop_others(folder)


def _run(parts: tuple[str, ...], folder: Path) -> None:
    """Side by side."""
    environ = {**os.environ, kernel_cache.VARIABLE: str(folder)}
    started = [subprocess.Popen([sys.executable, "-m", MODULE, part], cwd=_ROOT, env=environ) for part in parts]
    for process in started:
        if code := process.wait():
            raise subprocess.CalledProcessError(code, process.args)


def _run_part(part: str) -> None:
    """Run the kernels of a part on small windows; "list" runs all, which takes no time now, and notes which ones are called from Python."""
    from scheduling.instanseg import warm as models  # noqa: PLC0415  (numba)
    from scheduling.slides import warm as slides  # noqa: PLC0415

    runs: dict[str, Callable[[], None]] = {**slides.PARTS, "models": models.warm}
    for name in runs if part == "list" else (part,):
        runs[name]()
    if part == "list":
        _write_list(Path(os.environ[kernel_cache.VARIABLE]))


def _write_list(folder: Path) -> None:
    partial = folder / f".{_LIST}.{os.getpid()}"
    partial.write_bytes(pickle.dumps([(kernel.__module__, kernel.__name__, kernel.signatures) for kernel in _called()]))
    partial.replace(folder / _LIST)


def _called() -> Iterator[Any]:
    """The product's kernels that Python has called. Those that only kernels call are part of their callers, once these are compiled."""
    from numba.extending import is_jitted  # noqa: PLC0415

    for name, module in sorted(sys.modules.items()):
        if name.startswith("scheduling."):
            yield from (value for value in vars(module).values() if is_jitted(value) and value.__module__ == name and value.signatures)


# -- loading


def load(folder: Path) -> int:
    """Load the compiled kernels, for this process and all that it forks; runs none of them. How many there were."""
    number = 0
    for module, name, signatures in pickle.loads((folder / _LIST).read_bytes()):  # noqa: S301  (ours, as numba's own files beside it)
        kernel = getattr(import_module(module), name)
        for signature in signatures:
            kernel.compile(signature)
            number += 1
    return number


# -- waiting


class Gate:
    """Whether kernels are ready, seen by a worker's parent and all its children. Open until somebody closes it."""

    def __init__(self) -> None:
        self._closed = mmap.mmap(-1, 1)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def refusal(self) -> str:
        """Why work on a slide has to wait; "" when it has not."""
        return WAITING if self._closed[0] else ""

    def close(self) -> None:
        """Before the children are forked."""
        self._closed[0] = 1

    def open_when_compiled(self) -> threading.Thread:
        """Compile beside everything else; in the parent, when the children are forked."""
        self._process = subprocess.Popen([sys.executable, "-m", MODULE], cwd=_ROOT)
        psutil.Process(self._process.pid).nice(NICE)  # before it has started its parts
        waiting = threading.Thread(target=self._wait, args=(self._process,), name="kernels", daemon=True)
        waiting.start()
        return waiting

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        try:
            code = process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            code = None
        self._closed[0] = 0
        if code != 0:
            logger.warning("kernels are not compiled ahead (%s): first tiles take longer", code, extra={"action": "kernels_missing"})

    def give_up(self) -> None:
        """End the compiling with the worker."""
        if self._process is not None and self._process.poll() is None:
            for child in psutil.Process(self._process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            self._process.kill()


gate = Gate()


def main(parts: list[str]) -> None:
    """Compile all, or run one part of it. Ends with whoever asked for it (Linux)."""
    follow_parent(os.getppid())
    if parts:
        _run_part(parts[0])
    else:
        compile_all(kernel_cache.folder(Path(os.environ.get("DATA_DIR") or "var").resolve()))


if __name__ == "__main__":
    main(sys.argv[1:])

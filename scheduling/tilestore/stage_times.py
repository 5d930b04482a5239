"""Where the time of a job goes: seconds of work by stage, noted beside the tiles and never in them.

At the end of each bundle a process appends a line to a file of its own: no file is written by two processes, which a network
file system would not bear. A worker that is killed takes the seconds of its last bundle with it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson

from scheduling.tilestore.records import TilesLost, read_file

logger = logging.getLogger(__name__)

#: How the names of the files begin.
PREFIX = "seconds."
#: Stages outside of the tiles: planning, and what finishing does up to the summary.
PLAN, EXPORT = "plan", "export"


class Work:
    """Tiles computed, and seconds worked by stage. Threads may share one; in another process a copy begins at nothing."""

    def __init__(self) -> None:
        self.tiles = 0
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()
        self._of_thread = threading.local()

    def __reduce__(self) -> tuple[type[Work], tuple[()]]:
        return Work, ()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside for a stage, less what stages within it take."""
        began, outer = time.perf_counter(), getattr(self._of_thread, "inner", 0.0)
        self._of_thread.inner = 0.0
        try:
            yield
        finally:
            took = time.perf_counter() - began
            self.add(name, took - self._of_thread.inner)
            self._of_thread.inner = outer + took

    def add(self, name: str, seconds: float) -> None:
        """Count seconds for a stage."""
        with self._lock:
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def take_in(self, other: Work) -> None:
        """Add up with what was worked elsewhere."""
        self.tiles += other.tiles
        for name, seconds in other.seconds.items():
            self.add(name, seconds)


def note(folder: Path, work: Work) -> None:
    """Append the work to this process's file in `folder`, and let it begin again at nothing.

    Where that cannot be written (the folder is gone, the disk is full) it is lost: no tile fails for it.
    """
    line = orjson.dumps({"tiles": work.tiles, "seconds": {name: round(seconds, 4) for name, seconds in work.seconds.items()}}) + b"\n"
    try:
        descriptor = os.open(folder / f"{PREFIX}{_name(os.getpid())}", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
    except OSError as error:
        logger.info("the time of a bundle is not noted: %s", error, extra={"action": "seconds_not_noted"})
    work.tiles, work.seconds = 0, {}


def noted(folder: Path) -> Work:
    """All that was noted in `folder`; lines that are not whole are left out."""
    total, files = Work(), list[Path]()
    with suppress(FileNotFoundError):
        files += folder.glob(f"{PREFIX}*")
    for path in files:
        # What is no file, or has gone meanwhile, tells nothing.
        with suppress(TilesLost):
            for line in read_file(path).splitlines():
                total.take_in(_read(line))
    return total


def _read(line: bytes) -> Work:
    """A noted line; nothing of one that is damaged."""
    work = Work()
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        data: dict[str, Any] = orjson.loads(line)
        seconds = {str(name): float(value) for name, value in data["seconds"].items()}
        work.tiles, work.seconds = int(data["tiles"]), seconds
    return work


@lru_cache
def _name(pid: int) -> str:
    """Of the process's own file: drawn anew in a child that was forked, whose number is another."""
    return uuid4().hex

"""What processes use, as the system tells it: psutil everywhere, and on Linux how long they waited for a CPU, and for the disk."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from scheduling.worker.watching.stillness import Vitals

_PROC = Path("/proc")
#: Fields of /proc/PID/stat after the name in brackets: the state, pages brought back from the disk.
_STATE, _FAULTS = 0, 9
_S = 1e-9
_STOPPED = {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP}
#: CPU seconds used by threads of this process that serve the worker, by thread.
_apart: dict[int, float] = {}


def count_apart() -> None:
    """What the calling thread has used, and uses from now on, says nothing of the bundle that its own process carries."""
    _apart[threading.get_native_id()] = time.thread_time()


def measure(pids: Collection[int]) -> dict[int, Vitals]:
    """What each of these processes has used, with the processes that it has started; those that are gone are left out."""
    children = _children() if pids else {}
    found = {pid: [_one(each) for each in _family(pid, children)] for pid in pids}
    return {pid: _sum(vitals[0], [each for each in vitals if each]) for pid, vitals in found.items() if vitals[0]}


def _sum(first: Vitals, family: list[Vitals]) -> Vitals:
    return Vitals(
        cpu_s=sum(one.cpu_s for one in family),
        waited_s=sum(one.waited_s for one in family),
        io=sum(one.io for one in family),
        is_stopped=first.is_stopped,
        is_at_disk=any(one.is_at_disk for one in family),
    )


def is_stopped(pid: int) -> bool:
    """Whether somebody has stopped the process; False when it is gone."""
    try:
        return bool(psutil.Process(pid).status() in _STOPPED)
    except psutil.Error:
        return False


def family_of(pid: int) -> list[int]:
    """A process and those that it has started."""
    return list(_family(pid, _children()))


def _children() -> dict[int, list[int]]:
    """One look at all processes, however many are asked for."""
    children: dict[int, list[int]] = defaultdict(list)
    for process in psutil.process_iter():
        try:
            children[process.ppid()].append(process.pid)
        except psutil.Error:
            continue
    return children


def _family(pid: int, children: Mapping[int, list[int]]) -> Iterator[int]:
    yield pid
    for child in children.get(pid, ()):
        yield from _family(child, children)


def _one(pid: int) -> Vitals | None:
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            status, times = process.status(), process.cpu_times()
            if status == psutil.STATUS_ZOMBIE:
                return None
            told = _Linux.of(pid) if _PROC.is_dir() else _Linux()
    except (psutil.Error, OSError, IndexError):
        return None
    return Vitals(
        cpu_s=sum(times[:4]) - (sum(_apart.values()) if pid == os.getpid() else 0.0),  # with those of its children that have ended
        waited_s=told.waited_s,
        io=told.io,
        is_stopped=status in _STOPPED,
        is_at_disk=told.is_at_disk or status == psutil.STATUS_DISK_SLEEP,
    )


@dataclass(frozen=True, kw_only=True)
class _Linux:
    """What only Linux tells of a process."""

    waited_s: float = 0.0
    io: int = 0
    is_at_disk: bool = False

    @classmethod
    def of(cls, pid: int) -> _Linux:
        """Read from /proc. Raises OSError when the process is gone."""
        folder = _PROC / str(pid)
        apart = {str(thread) for thread in _apart} if pid == os.getpid() else set()
        threads = [thread for thread in (folder / "task").iterdir() if thread.name not in apart]
        stats = [stat for thread in threads if (stat := _stat(thread))]
        return cls(
            waited_s=sum(_waited_s(thread) for thread in threads),
            io=_io(folder) + int(_stat(folder)[_FAULTS]) - sum(_io(folder / "task" / thread) for thread in apart),
            is_at_disk=any(stat[_STATE] == "D" for stat in stats),
        )


def _stat(folder: Path) -> list[str]:
    """Empty for a thread that has ended."""
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _waited_s(thread: Path) -> float:
    """0 for a thread that has ended, and in a kernel that does not count it."""
    try:
        return int((thread / "schedstat").read_text().split()[1]) * _S
    except (OSError, IndexError, ValueError):
        return 0.0


def _io(folder: Path) -> int:
    """Calls and bytes, of a process (with its threads and children that have ended) or of a thread."""
    try:
        return sum(int(line.split()[1]) for line in (folder / "io").read_text().splitlines())
    except (OSError, IndexError, ValueError):
        return 0

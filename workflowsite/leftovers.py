"""What a run leaves behind that was killed, or whose `make` was: found by the mark that all its programs carry, and ended.

A program is ended only when it carries the mark of the run that the lock names, and that run is dead or abandoned. The mark is
drawn for each run, so nothing else on the machine can have it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

import psutil

#: In the environment of every program of a run.
MARK = "WORKFLOW_RUN"
#: A program may hand in what it has, then it is killed.
TERM_S = 2.0
KILL_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Who holds the lock of a DATA_DIR; what the lock's file says of it."""

    pid: int = 0
    #: When the process began, as the system tells it: a number is given to another process later.
    began: float = 0.0
    host: str = ""
    mark: str = ""
    #: The `make` that it ends with; 0 for one that ends with nobody.
    parent: int = 0
    parent_began: float = 0.0

    @classmethod
    def this_process(cls, mark: str, parent: int | None) -> Owner:
        """For the lock's file."""
        pid, host = os.getpid(), socket.gethostname()
        return cls(pid=pid, began=_began(pid), host=host, mark=mark, parent=parent or 0, parent_began=_began(parent or 0))

    @classmethod
    def read(cls, text: str) -> Owner:
        """From the lock's file; an earlier version wrote the number of the process alone."""
        with suppress(ValueError, TypeError):
            said = json.loads(text)
            return cls(**said) if isinstance(said, dict) else cls(pid=int(said))
        return cls()

    def written(self) -> str:
        """For `read`."""
        return json.dumps(asdict(self))

    @property
    def is_elsewhere(self) -> bool:
        """On another host, of whose processes nothing is known here."""
        return self.host not in {"", socket.gethostname()}

    @property
    def is_at_work(self) -> bool:
        """It lives, and so does the `make` that it ends with."""
        return _lives(self.pid, self.began) and (not self.parent or _lives(self.parent, self.parent_began))


def end(owner: Owner) -> None:
    """End what is left of a run that is not at work any more, stopped processes too: SIGTERM, and SIGKILL to what does not go."""
    for number, wait_s in ((signal.SIGTERM, TERM_S), (signal.SIGKILL, KILL_S), (signal.SIGKILL, KILL_S)):
        left = _of(owner)
        if not left:
            return
        for process in left:
            with suppress(psutil.Error):
                process.send_signal(number)
        psutil.wait_procs(left, timeout=wait_s)


def _of(owner: Owner) -> Sequence[psutil.Process]:
    """Its programs, and itself if it lives."""
    found = [process for process in psutil.process_iter() if owner.mark and _mark(process) == owner.mark]
    if _lives(owner.pid, owner.began) and owner.mark:
        found.append(psutil.Process(owner.pid))
    return [process for process in found if process.pid != os.getpid()]


def _mark(process: psutil.Process) -> str:
    try:
        return process.environ().get(MARK, "")
    except (psutil.Error, OSError):  # another user's, or gone
        return ""


def _began(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time() if pid else 0.0
    except psutil.Error:
        return 0.0


def _lives(pid: int, began: float) -> bool:
    """Whether this very process lives; `began` 0: any of that number."""
    try:
        process = psutil.Process(pid)
        # The clock that it is reckoned from may have been set since.
        is_same = not began or abs(process.create_time() - began) < 2
        return pid > 0 and is_same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.AccessDenied:
        return True
    except psutil.Error:
        return False

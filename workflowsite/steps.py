"""A command that has to succeed before `make run` goes on: migrations, static files, the demo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from scheduling.env import BASE_DIR
from workflowsite.monitor import ending, kill_group, launched
from workflowsite.preflight import CannotStart
from workflowsite.programs import LOCK_FD


class Step(ProcessProtocol):
    """Runs once; its output goes to logs/<name>.log, and when it fails its last line is the reason."""

    def __init__(self, name: str, command: Sequence[str], environ: dict[str, str], logs: Path, lock: int) -> None:
        self._name = name
        self._command = command
        self._environ = environ
        self._log = logs / f"{name}.log"
        self._lock = lock
        self._output = b""
        self._pid = 0
        self._done: Deferred[None] = Deferred()
        self._ended: Deferred[None] = Deferred()

    def start(self, reactor: Any) -> Deferred[None]:
        """Start it; fires when it has succeeded, fails with CannotStart when it has not."""
        descriptors = {0: "w", 1: "r", 2: "r", LOCK_FD: self._lock}
        command = launched(self._command)
        reactor.spawnProcess(self, command[0], command, env=self._environ, path=str(BASE_DIR), childFDs=descriptors)
        return self._done

    def stop(self) -> Deferred[None]:
        """Kill it if it runs still: every step can be done again. Fires when it has ended."""
        if self._pid:
            kill_group(self._pid)
        return self._ended

    def connectionMade(self) -> None:
        """Remember the process."""
        self._pid = self.transport.pid

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Collect what it says, on either stream."""
        self._output += data

    def processExited(self, reason: Failure) -> None:
        """End what it left behind, so that its pipes close."""
        kill_group(self._pid)

    def processEnded(self, reason: Failure) -> None:
        """Report."""
        self._pid = 0
        self._log.write_bytes(self._output)
        self._ended.callback(None)
        if self._done.called:
            return
        if reason.value.exitCode == 0:
            self._done.callback(None)
        else:
            lines = self._output.decode(errors="replace").strip().splitlines()
            why = lines[-1] if lines else ending(reason)
            self._done.errback(CannotStart(f"{self._name} failed: {why} (more in {self._log})"))

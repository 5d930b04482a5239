"""Keeps the programs of `make run` alive, on Twisted's ProcessMonitor, and stops them one by one.

What differs from the library: a dead program is always started again after a delay (0.5 s doubling to 5 s, back to 0.5 s
after 30 s alive), each program is the head of its own process group, and stopping goes through the signals it names.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.runner.procmon import LineLogger, LoggingProtocol, ProcessMonitor, transport

from scheduling.env import BASE_DIR
from workflowsite.output import program_log
from workflowsite.programs import Program, StopStep

RESET_AFTER_S = 30.0
KILL = StopStep(signal.SIGKILL, 0)


def launched(command: Sequence[str]) -> list[str]:
    """The command line that starts a program in its own session (`launch.py`)."""
    return [sys.executable, "-m", "scheduling.launch", str(os.getpid()), *command]


def signal_process(pid: int, number: signal.Signals) -> None:
    """Signal a program; SIGKILL goes to its whole group."""
    with contextlib.suppress(ProcessLookupError):
        if number is signal.SIGKILL:
            kill_group(pid)
        os.kill(pid, number)


def kill_group(pid: int) -> None:
    """Kill whatever is left of the group that this process led."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def ending(reason: Failure | None) -> str:
    """How a process ended, in words."""
    value = reason.value if reason else None
    if number := getattr(value, "signal", None):
        return f"killed by {signal.Signals(number).name}"
    code = getattr(value, "exitCode", None)
    return f"could not be started ({value})" if code is None else f"ended with exit code {code}"


class Lines(LineLogger):
    """One stream of a program, line by line; a line without end is passed on in pieces."""

    def lineLengthExceeded(self, line: bytes) -> None:
        """Pass a piece on; the library would close the stream."""
        self.lineReceived(line)

    def lineReceived(self, line: bytes) -> None:
        """Log a line under the program's name."""
        if line:
            program_log(self.tag).info("%s", line.decode(errors="replace"))


class ProgramProtocol(LoggingProtocol):
    """The pipes of one run of a program."""

    pid = 0

    def connectionMade(self) -> None:
        """As the library's, with our `Lines`."""
        self.pid = self.transport.pid
        self._output, self._error = Lines(), Lines()
        for stream, lines in (("stdout", self._output), ("stderr", self._error)):
            lines.tag, lines.stream, lines.service = self.name, stream, self.service
            lines.makeConnection(transport)
        self._outputEmpty = self._errorEmpty = True

    def processExited(self, reason: Failure) -> None:
        """End the rest of its group: a child that lives on would hold the pipes open, and with them the restart."""
        kill_group(self.pid)


class Monitor(ProcessMonitor):
    """Runs programs until they are removed."""

    minRestartDelay = 0.5
    maxRestartDelay = 5
    # Every death counts as an early one, so that every restart is delayed; the reset after 30 s is ours.
    threshold = math.inf

    def __init__(self, environ: dict[str, str], inherited: Mapping[int, int], reactor: Any) -> None:
        """`inherited`: a program's descriptors beside its three streams, by number."""
        super().__init__(reactor)
        self._environ = environ
        self._inherited = inherited
        self._stop: dict[str, tuple[StopStep, ...]] = {}
        self._waiting: dict[str, list[Deferred[None]]] = {}
        self._hastened = False

    def add(self, program: Program) -> None:
        """Start a program and keep it alive."""
        self._stop[program.name] = program.stop
        self.addProcess(program.name, launched(program.command), env=self._environ, cwd=str(BASE_DIR))

    def remove(self, name: str) -> Deferred[None]:
        """Stop a program; fires when its process has ended. At once when it is not running or not known."""
        gone: Deferred[None] = Deferred()
        if (again := self.restart.get(name)) and again.active():
            again.cancel()
        if name in self.protocols:
            self._waiting.setdefault(name, []).append(gone)
        else:
            gone.callback(None)
        if name in self._processes:
            self.removeProcess(name)
        return gone

    def hasten(self) -> None:
        """From now on a stop is a kill."""
        self._hastened = True
        for name in self._waiting:
            self._escalate(name, (KILL,))

    def startProcess(self, name: str) -> None:
        """As the library's, with our protocol and descriptors."""
        if name in self.protocols:
            return
        process = self._processes[name]
        protocol = ProgramProtocol()
        protocol.service, protocol.name = self, name
        self.protocols[name] = protocol
        self.timeStarted[name] = self._clock.seconds()
        descriptors = {0: "w", 1: "r", 2: "r", **self._inherited}
        try:
            self._reactor.spawnProcess(protocol, process.args[0], process.args, env=process.env, path=process.cwd, childFDs=descriptors)
        except OSError:
            self._monitoredProcessExited(name, Failure())

    def stopProcess(self, name: str) -> None:
        """Send the program's first stop signal; the others follow in their time, SIGKILL to its group last."""
        if name not in self._processes:
            raise KeyError(name)
        self._escalate(name, (KILL,) if self._hastened else (*self._stop[name], KILL))

    def _escalate(self, name: str, steps: tuple[StopStep, ...]) -> None:
        if (pending := self.murder.pop(name, None)) and pending.active():
            pending.cancel()
        protocol = self.protocols.get(name)
        if protocol is None or protocol.transport is None or protocol.transport.pid is None:
            return
        step, *later = steps
        signal_process(protocol.transport.pid, step.signal)
        if later:
            self.murder[name] = self._clock.callLater(step.wait_s, self._escalate, name, tuple(later))

    def _monitoredProcessExited(self, name: str, reason: Failure | None = None) -> None:
        alive_s = self._clock.seconds() - self.timeStarted[name]
        if alive_s >= RESET_AFTER_S:
            self.delay[name] = self.minRestartDelay
        if name in self._processes and self.running:
            program_log(name).warning("%s after %.1f s; starting it again in %.1f s", ending(reason), alive_s, self.delay[name])
        else:
            program_log(name).info("stopped: %s", ending(reason))
        super()._monitoredProcessExited(name, reason)
        for gone in self._waiting.pop(name, []):
            gone.callback(None)

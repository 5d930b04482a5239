"""What a killed run leaves behind is ended by the next one; what is at work, or of another run, is not touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import psutil
import pytest

from tests.support.processes import is_alive
from workflowsite import leftovers
from workflowsite.leftovers import MARK, Owner

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
Start = Callable[[str], subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts programs that ignore SIGTERM, with a mark."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(mark: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", STUBBORN], env={**os.environ, MARK: mark}, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout
        process.stdout.readline()
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "TERM_S", 0.05)


def dead_pid() -> int:
    """Of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_programs_of_a_dead_run_are_ended_stopped_ones_too_and_those_of_others_are_not(start: Start) -> None:
    left, stopped, other = start("a"), start("a"), start("b")
    stopped.send_signal(signal.SIGSTOP)
    leftovers.end(Owner(pid=dead_pid(), mark="a"))
    assert not is_alive(left.pid)
    assert not is_alive(stopped.pid)
    assert other.poll() is None


def test_without_a_mark_nothing_is_ended(start: Start) -> None:
    process = start("")
    leftovers.end(Owner(pid=process.pid))
    assert process.poll() is None


def test_a_run_whose_make_is_gone_is_not_at_work_and_is_ended_with_its_programs(start: Start) -> None:
    up, program = start(""), start("a")
    owner = Owner(pid=up.pid, began=psutil.Process(up.pid).create_time(), mark="a", parent=dead_pid())
    assert not owner.is_at_work
    leftovers.end(owner)
    assert not is_alive(up.pid)
    assert not is_alive(program.pid)


def test_a_run_is_at_work_as_long_as_it_and_its_make_live() -> None:
    this = Owner.this_process("a", os.getppid())
    assert this.is_at_work
    assert Owner.read(this.written()) == this
    assert not Owner(pid=os.getpid(), began=1.0).is_at_work  # another process of that number
    assert not Owner(pid=dead_pid()).is_at_work


def test_the_lock_of_an_earlier_version_or_of_nobody_is_read() -> None:
    assert Owner.read("123") == Owner(pid=123)
    assert Owner.read("") == Owner.read("{") == Owner.read(json.dumps({"unknown": 1})) == Owner()


def test_a_run_of_another_host_is_not_judged_here() -> None:
    assert Owner(pid=1, host="elsewhere").is_elsewhere
    assert not Owner.this_process("a", None).is_elsewhere

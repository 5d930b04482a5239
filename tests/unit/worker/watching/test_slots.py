"""Which bundle a process carries, seen by another process; and what real processes use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context

import psutil
import pytest

from scheduling.jobtypes.base import JobSpec
from scheduling.protocol.messages import Bundle, Kind
from scheduling.worker.watching import slots
from scheduling.worker.watching.slots import Slots
from scheduling.worker.watching.vitals import count_apart, family_of, measure
from tests.support.waiting import eventually

SPEC = JobSpec(id="a5a5a5a5-0000-0000-0000-000000000001", owner="alice", job_type="SEGMENT_CELLS", parameters={}, slide=None)
BUNDLE = Bundle(id="b" * 32, kind=Kind.TILES, term=3, epoch=4, spec=SPEC, time_box_s=0.25, limit_s=12.5, tiles=(0, 1))


def test_a_bundle_is_seen_while_it_is_carried() -> None:
    shared = Slots(2)
    assert shared.carried() == []
    with shared.carrying(BUNDLE):
        (found,) = shared.carried()
        assert (found.pid, found.bundle, found.job, found.epoch, found.term, found.limit_s) == (os.getpid(), BUNDLE.id, SPEC.id, 4, 3, 12.5)
        assert shared.begun(["another", BUNDLE.id]) == found
    assert shared.carried() == []
    assert shared.begun([BUNDLE.id]) is None


def test_a_bundle_that_raises_is_not_carried_any_more() -> None:
    shared = Slots(1)
    with suppress(ValueError), shared.carrying(BUNDLE):
        raise ValueError
    assert shared.carried() == []


def test_nothing_is_needed_where_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_shared", [])
    with slots.carrying(BUNDLE):
        pass


def test_what_a_process_was_at_when_it_died_stays_while_the_next_one_works() -> None:
    shared = Slots(1)

    def die() -> None:
        with shared.carrying(BUNDLE):
            os._exit(9)

    child = get_context("fork").Process(target=die)
    child.start()
    child.join()
    assert shared.carried() == [], "nobody carries it"
    other = Bundle(**{**vars(BUNDLE), "id": "c" * 32})
    with shared.carrying(other):
        assert [one.bundle for one in shared.carried()] == ["c" * 32]
        left = shared.begun([BUNDLE.id])
    assert left is not None
    assert left.pid == child.pid


@contextmanager
def running(program: str) -> Iterator[psutil.Process]:
    """A Python process, once it has said that it is there."""
    with subprocess.Popen([sys.executable, "-c", f"print(flush=True);{program}"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield psutil.Process(process.pid)
        process.kill()


def grows(pid: int, what: Callable[[int], float], by: float) -> None:
    """Wait until a figure of a process has grown."""
    before = what(pid)
    eventually(lambda: what(pid) > before + by, "more of it", within_s=30)


def test_a_process_that_computes_is_seen_to_and_so_is_its_helper() -> None:
    with running("\nwhile True: pass") as process:
        grows(process.pid, lambda pid: measure([pid])[pid].used_s, 0.1)
    helper = "import subprocess,sys;subprocess.run([sys.executable,'-c','while True: pass'])"
    with running(helper) as process:
        eventually(lambda: len(family_of(process.pid)) == 2, "the helper")
        grows(process.pid, lambda pid: measure([pid])[pid].used_s, 0.1)
        psutil.Process(family_of(process.pid)[1]).kill()


def test_a_process_that_reads_is_seen_to() -> None:
    with running("\nwhile True: open('/dev/zero','rb').read(4096)") as process:
        grows(process.pid, lambda pid: measure([pid])[pid].io, 4096)


def test_a_stopped_process_is_told_apart_and_one_that_is_gone_is_left_out() -> None:
    with running("import signal;signal.pause()") as process:
        assert not measure([process.pid])[process.pid].is_stopped
        process.send_signal(signal.SIGSTOP)
        eventually(lambda: measure([process.pid])[process.pid].is_stopped, "the stop")
    assert measure([process.pid]) == {}


def test_what_threads_use_that_serve_the_worker_is_not_counted_to_its_bundle() -> None:
    """As in a worker whose bundles run in its own process: its heartbeat must not look like work."""
    begin, has_worked, over = threading.Event(), threading.Event(), threading.Event()

    def serve() -> None:
        count_apart()
        begin.wait()
        while psutil.Process().cpu_times().user < before + 0.5:
            pass
        count_apart()
        has_worked.set()
        over.wait()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    before = psutil.Process().cpu_times().user
    counted = measure([os.getpid()])[os.getpid()].cpu_s
    begin.set()
    assert has_worked.wait(30)
    assert measure([os.getpid()])[os.getpid()].cpu_s < counted + 0.25
    over.set()
    thread.join()

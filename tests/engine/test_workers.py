"""Workers come and go while a job runs: hung, stopped, killed, added, of another version."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import psutil
import pytest

from scheduling.models import Job, User, Workflow
from scheduling.protocol import presence
from scheduling.protocol.inbox import connect
from scheduling.selectors.queue import workers
from tests.engine.harness import Engine, Worker, is_running, states, submit
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

NewWorker = Callable[..., Worker]


def tiles_of(workflow: Workflow) -> int:
    return sum(Job.objects.filter(workflow=workflow).values_list("tiles_processed", flat=True))


def busy_child(worker: Worker) -> psutil.Process:
    """A child that has just computed something: in the middle of a bundle, most likely."""
    return max(worker.children(), key=lambda child: child.cpu_times().user)


def test_a_stopped_child_is_found_ended_and_replaced_and_its_job_finishes(engine: Engine, worker: Worker, alice: User) -> None:
    engine.lead(stuck_s=2.0)
    workflow = submit(alice, ("j", "b"), tiles=60, seconds_per_tile=0.2)
    engine.run_until(lambda: is_running(workflow, tiles=8), "eight tiles")
    children = worker.children()
    for child in children:
        child.suspend()
    engine.finish(workflow)
    assert states(workflow) == {"j": "SUCCEEDED"}
    assert Job.objects.get().tries == {}, "tiles that went on elsewhere are charged nothing that stays"
    eventually(lambda: not any(child.is_running() for child in children), "the end of the stopped children")


def test_a_worker_whose_parent_is_stopped_is_replaced_by_another_and_finished_tiles_are_kept(
    engine: Engine, worker: Worker, new_worker: NewWorker, alice: User
) -> None:
    second = new_worker("second")
    workflow = submit(alice, ("j", "b"), tiles=120, seconds_per_tile=0.1)
    engine.run_until(lambda: is_running(workflow, tiles=10), "ten tiles")
    assert second.process is not None
    os.killpg(second.process.pid, signal.SIGSTOP)
    engine.finish(workflow)
    assert states(workflow) == {"j": "SUCCEEDED"}


def test_a_second_worker_speeds_a_running_job_up(engine: Engine, worker: Worker, new_worker: NewWorker, alice: User) -> None:
    worker.kill()
    new_worker("slow", processes=1)
    workflow = submit(alice, ("j", "b"), tiles=400, seconds_per_tile=0.05)
    engine.run_until(lambda: is_running(workflow, tiles=5), "five tiles")
    alone = rate(engine, workflow)
    new_worker("fast", processes=3)
    assert rate(engine, workflow) > 2 * alone
    engine.finish(workflow)


def rate(engine: Engine, workflow: Workflow, tiles: int = 40) -> float:
    """Tiles per second over the next so many."""
    before, began = tiles_of(workflow), time.monotonic()
    engine.run_until(lambda: tiles_of(workflow) >= before + tiles, f"{tiles} tiles")
    return (tiles_of(workflow) - before) / (time.monotonic() - began)


def test_a_worker_that_is_asked_to_stop_finishes_its_bundle_and_takes_no_other(
    engine: Engine, worker: Worker, new_worker: NewWorker, alice: User
) -> None:
    worker.kill()
    leaving = new_worker("leaving", processes=2)
    workflow = submit(alice, ("j", "b"), tiles=30, seconds_per_tile=0.4)
    engine.run_until(lambda: is_running(workflow, tiles=2), "two tiles")
    assert leaving.process is not None
    leaving.process.terminate()
    engine.run_until(lambda: leaving.process is not None and leaving.process.poll() is not None, "the worker's end")
    assert leaving.process.returncode == 0
    assert engine.loop._ledger.stale == 0
    new_worker("next")
    engine.finish(workflow)
    assert states(workflow) == {"j": "SUCCEEDED"}


def test_a_worker_of_another_version_is_shown_and_gets_nothing(
    engine: Engine, worker: Worker, new_worker: NewWorker, redis_server: RedisServer, alice: User
) -> None:
    new_worker("other", version="0.0.1+000000000000")
    shown = {found["name"].partition("@")[0]: found["state"] for found in workers()}
    assert shown["other"] == "other version"
    workflow = submit(alice, ("j", "b"), tiles=40, seconds_per_tile=0.02)
    engine.finish(workflow)
    done_by = {str(outcome["worker"]).partition("@")[0] for outcome in engine.inbox.delivered}
    assert done_by == {"tests"}
    assert any(heartbeat.name.startswith("other@") for heartbeat in presence.live(connect(redis_server.url)))

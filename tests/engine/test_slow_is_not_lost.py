"""A busy machine makes work late, never FAILED; and what is stuck all the same is found."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from scheduling.models import Job, User, Workflow
from scheduling.services.workflows import JobRequest, WorkflowRequest, job_cancel, workflow_submit
from scheduling.states import JobState
from tests.engine.harness import Engine, Worker, is_running, states, submit
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.engine

NewWorker = Callable[..., Worker]
STOPPED_S = 30.0
HOGS = 10
#: Together the hogs weigh as much as one process that is not nice, so that tests beside this one go on; a starved process gets some
#: hundredths of a CPU beside them.
HOGS_NICE, STARVED_NICE = 8, 11
#: A process that takes what CPU it gets, and ends by itself whatever becomes of the test.
HOG = f"import os, signal; os.nice({HOGS_NICE}); signal.alarm(90)\nwhile True: pass"
#: Tiles that compute for a tenth of a second, of the CPU's time.
COMPUTING = """
import time
from scheduling.jobtypes.simulated import Simulated
def process(self, context, tiles):
    end = time.thread_time() + 0.1
    while time.thread_time() < end:
        pass
    yield from ((index, b"") for index in tiles)
Simulated.process = process
"""
#: Tiles that never end: tile 3 of five waits, tile 0 of six and of seven computes.
WITHOUT_END = """
import threading
from scheduling.jobtypes.simulated import Simulated
def process(self, context, tiles):
    total = context.spec.parameters["tiles"]
    if total == 5 and 3 in tiles:
        threading.Event().wait()
    while total in (6, 7) and 0 in tiles:
        pass
    yield from ((index, b"") for index in tiles)
Simulated.process = process
"""


@pytest.fixture
def engine(transactional_db: None, redis_server: RedisServer, _worker: Worker) -> Engine:
    """The loop on an empty database, without the package's own worker."""
    from workflowsite.celery import app

    _worker.stop()
    app.set_default()
    return Engine(redis_server.url)


@pytest.fixture
def hogs() -> Iterator[Callable[[], None]]:
    """Loads the machine."""
    started: list[subprocess.Popen[bytes]] = []
    yield lambda: started.extend(subprocess.Popen([sys.executable, "-c", HOG]) for _ in range(HOGS))
    for hog in started:
        hog.kill()
        hog.wait()


def starve(worker: Worker) -> None:
    """Give everybody else the precedence, also where Linux shares the CPUs among sessions first."""
    assert worker.process is not None
    for process in (psutil.Process(worker.process.pid), *worker.children()):
        for thread in process.threads():
            os.setpriority(os.PRIO_PROCESS, thread.id, STARVED_NICE)
    with suppress(OSError):
        Path(f"/proc/{worker.process.pid}/autogroup").write_text(str(STARVED_NICE))


def most_often_computed(engine: Engine) -> int:
    """How often the tile was done that was done most often."""
    counts = Counter((outcome["job"], tile) for outcome in engine.inbox.delivered for tile in outcome["done"])  # type: ignore[attr-defined]
    return max(counts.values())


def assert_all_succeeded(engine: Engine, *workflows: Workflow) -> None:
    assert {state for workflow in workflows for state in states(workflow).values()} == {JobState.SUCCEEDED}
    assert all(job.tries == {} for job in Job.objects.all()), "a tile was charged with what the machine did"
    assert most_often_computed(engine) <= 2


def test_on_a_machine_that_leaves_its_workers_next_to_nothing_every_job_succeeds(
    engine: Engine, new_worker: NewWorker, hogs: Callable[[], None], alice: User, bob: User
) -> None:
    engine.lead(stuck_s=1.0, lost_after_s=5.0)
    starved = new_worker("starved", processes=2, before=COMPUTING)
    hogs()
    starve(starved)
    workflows = [submit(user, ("a", "a"), tiles=2, seconds_per_tile=0.01) for user in (alice, bob)]
    engine.finish(*workflows)
    assert_all_succeeded(engine, *workflows)


def test_processes_stopped_for_half_a_minute_make_work_late_and_fail_nothing(
    engine: Engine, new_worker: NewWorker, alice: User, bob: User
) -> None:
    engine.lead(lost_after_s=5.0)
    first, second = new_worker("first", processes=3), new_worker("second", processes=2)
    workflows = [submit(user, ("a", "a"), ("b", "b"), tiles=80, seconds_per_tile=0.3) for user in (alice, bob)]
    engine.run_until(lambda: all(is_running(workflow, tiles=4) for workflow in workflows), "four tiles of each")
    alone, together = first.children()[0], second.process
    assert together is not None
    began = time.monotonic()
    alone.suspend()
    os.killpg(together.pid, signal.SIGSTOP)
    engine.run_until(lambda: time.monotonic() - began > STOPPED_S, "half a minute")
    os.killpg(together.pid, signal.SIGCONT)
    with suppress(psutil.NoSuchProcess):
        alone.resume()
    engine.finish(*workflows)
    assert_all_succeeded(engine, *workflows)


def test_tiles_that_never_end_are_found_whether_they_wait_or_compute(engine: Engine, new_worker: NewWorker, alice: User) -> None:
    engine.lead(stuck_s=1.0, max_workers=4)
    new_worker("hanging", processes=4, before=WITHOUT_END)
    requests = [
        JobRequest(
            job_id=name, branch=name, job_type="TISSUE_MASK", parameters={"tiles": tiles, "seconds_per_tile": 0.01}, timeout_s=timeout_s
        )
        for name, tiles, timeout_s in (("waits", 5, None), ("cancelled", 6, None), ("late", 7, 4.0))
    ]
    workflow = workflow_submit(user=alice, request=WorkflowRequest(jobs=tuple(requests)))
    engine.run_until(lambda: Job.objects.filter(job_id="cancelled", state=JobState.RUNNING).exists(), "its begin")
    job_cancel(job=Job.objects.get(job_id="cancelled"), actor="alice")
    engine.finish(workflow)
    assert states(workflow) == {"waits": JobState.FAILED, "cancelled": JobState.CANCELLED, "late": JobState.FAILED}
    errors = dict(Job.objects.values_list("job_id", "error"))
    assert errors["waits"] == "Tile 3: its process did nothing for 3 s (tried 3 times)"
    assert errors["late"] == "ran longer than its timeout_s of 4 s"

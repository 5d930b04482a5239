"""A worker of the queue gpu: one process in which the bundles run. It takes what requires a gpu and nothing else, lives through
long bundles, stops in time, and what it loses is done again. It is started with TORCH_DEVICE=cpu, on a machine without a device.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from scheduling.audit.checker import Checker
from scheduling.models import Event, Job, User, Workflow
from scheduling.protocol import presence
from scheduling.protocol.inbox import connect
from scheduling.selectors.log import log_events
from scheduling.selectors.workflows import workflow_body
from scheduling.services.workflows import JobRequest, WorkflowRequest, workflow_cancel, workflow_submit
from tests.engine.harness import BASE_DIR, Engine, Worker, is_running, states
from tests.support.redis_server import RedisServer
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.engine

NewGpuWorker = Callable[..., Worker]


@pytest.fixture
def gpu_worker(redis_server: RedisServer) -> Iterator[NewGpuWorker]:
    """Starts workers of the queue gpu; all are gone at the end."""
    started: list[Worker] = []

    def start(name: str = "gpu", **environ: str) -> Worker:
        started.append(Worker(redis_server.url, name, queue="gpu", TORCH_DEVICE="cpu", **environ))
        started[-1].start()
        return started[-1]

    yield start
    for worker in started:
        if worker.process is not None and worker.process.poll() is None:
            worker.kill()


def submit(user: User, *jobs: tuple[str, str], **parameters: object) -> Workflow:
    """Simulated INSTANSEG_WSI jobs given as (job_id, requires), each in a branch of its own."""
    requests = tuple(
        JobRequest(job_id=name, branch=name, job_type="INSTANSEG_WSI", parameters=dict(parameters), requires=requires)
        for name, requires in jobs
    )
    return workflow_submit(user=user, request=WorkflowRequest(jobs=requests))


def workers_of(engine: Engine, job: Job) -> set[str]:
    """Names of the workers that computed tiles of the job."""
    mine = [outcome for outcome in engine.inbox.delivered if outcome["job"] == str(job.uuid)]
    return {str(outcome["worker"]).partition("@")[0] for outcome in mine if outcome["done"]}


def test_a_job_that_requires_a_gpu_waits_for_such_a_worker_and_runs_on_no_other(
    engine: Engine, gpu_worker: NewGpuWorker, alice: User
) -> None:
    workflow = submit(alice, ("slow", "cpu"), ("fast", "gpu"), tiles=24, seconds_per_tile=0.01)
    engine.run_until(lambda: states(workflow)["slow"] == "SUCCEEDED", "the end of what needs no gpu")
    shown = {job["job_id"]: (job["requires"], job["state"], job["waiting_reason"]) for job in workflow_body(workflow)["jobs"]}
    assert shown["fast"] == ("gpu", "PENDING", "waiting for a gpu worker")
    assert shown["slow"][0] == "cpu"
    gpu_worker()
    engine.finish(workflow)
    assert states(workflow) == {"slow": "SUCCEEDED", "fast": "SUCCEEDED"}
    ran_on = {job.job_id: workers_of(engine, job) for job in Job.objects.filter(workflow=workflow)}
    assert ran_on == {"slow": {"tests"}, "fast": {"gpu"}}


def test_a_user_who_needs_a_gpu_that_is_not_there_keeps_nobody_waiting(
    engine: Engine, gpu_worker: NewGpuWorker, alice: User, bob: User
) -> None:
    engine.lead(max_concurrent_users=1, queue_patience_s=2.0)
    hers, his = submit(alice, ("early", "gpu"), tiles=800, seconds_per_tile=0.01), submit(bob, ("j", "cpu"), tiles=8, seconds_per_tile=0.01)
    engine.finish(his)
    (job,) = workflow_body(hers)["jobs"]
    assert (job["state"], job["waiting_reason"]) == ("PENDING", "waiting for a gpu worker")
    first = gpu_worker("first")
    engine.run_until(lambda: is_running(hers, tiles=16), "her sixteen tiles")
    first.kill()
    again = submit(bob, ("j", "cpu"), tiles=8, seconds_per_tile=0.01)
    engine.finish(again)
    assert states(hers) == {"early": "PENDING"}
    gpu_worker("second")
    engine.finish(hers)
    assert states(hers) == {"early": "SUCCEEDED"}
    moves = Event.objects.filter(type__in=["user.admitted", "user.released"], user_id=alice.pk).order_by("id")
    assert [(move.type, move.data.get("unserved")) for move in moves][:3] == [
        ("user.admitted", None),
        ("user.released", ["gpu"]),
        ("user.admitted", None),
    ]
    assert run_checker() == []


def run_checker() -> list[str]:
    """What is wrong with the event log."""
    checker = Checker()
    return [str(found) for found in [*checker.read(log_events()), *checker.finish()]]


def test_a_worker_that_is_started_again_costs_no_slot(engine: Engine, gpu_worker: NewGpuWorker, alice: User, bob: User) -> None:
    engine.lead(max_concurrent_users=1)
    first = gpu_worker("first")
    hers = submit(alice, ("j", "gpu"), tiles=160, seconds_per_tile=0.02)
    engine.run_until(lambda: is_running(hers, tiles=16), "her sixteen tiles")
    his = submit(bob, ("j", "cpu"), tiles=8, seconds_per_tile=0.01)
    first.kill()
    engine.run_until(lambda: states(hers) == {"j": "PENDING"}, "the job's way back")
    gpu_worker("second")
    engine.finish(hers, his)
    assert [event.user_id for event in Event.objects.filter(type="user.admitted").order_by("id")] == [alice.pk, bob.pk]


def test_it_is_heard_of_through_a_bundle_longer_than_a_heartbeat_lasts(
    engine: Engine, gpu_worker: NewGpuWorker, redis_server: RedisServer, alice: User
) -> None:
    gpu_worker()
    workflow = submit(alice, ("j", "gpu"), tiles=8, seconds_per_tile=1)
    redis = connect(redis_server.url)

    def held() -> tuple[str, ...]:
        return next(beat.bundles for beat in presence.live(redis) if beat.name.startswith("gpu@"))

    engine.run_until(lambda: bool(held()), "the bundle's begin")
    began = time.monotonic()
    engine.finish(workflow)
    assert time.monotonic() - began > presence.EXPIRES_S
    assert states(workflow) == {"j": "SUCCEEDED"}
    assert engine.loop._ledger.stale == 0, "the bundle was taken for lost and done twice"


def test_one_that_is_killed_loses_no_finished_tile(engine: Engine, gpu_worker: NewGpuWorker, alice: User) -> None:
    first = gpu_worker("first")
    workflow = submit(alice, ("j", "gpu"), tiles=160, seconds_per_tile=0.02)
    engine.run_until(lambda: is_running(workflow, tiles=16), "sixteen tiles")
    first.kill()
    engine.run_until(lambda: Job.objects.get().state == "PENDING", "the job's way back")
    assert workflow_body(workflow)["jobs"][0]["waiting_reason"] == "waiting for a gpu worker"
    kept = Job.objects.get().tiles_processed
    assert kept >= 16
    engine.inbox.delivered.clear()
    gpu_worker("second")
    engine.finish(workflow)
    assert states(workflow) == {"j": "SUCCEEDED"}
    again = sum(len(outcome["done"]) for outcome in engine.inbox.delivered)  # type: ignore[arg-type,misc]
    assert again <= 160 - kept
    assert Job.objects.get().attempt == 1


def test_one_that_is_stuck_in_a_bundle_ends_itself_and_another_does_it(engine: Engine, gpu_worker: NewGpuWorker, alice: User) -> None:
    engine.lead(stuck_s=2.0)
    stuck = gpu_worker("stuck", SIMULATED_SECONDS_PER_TILE="60")
    workflow = submit(alice, ("j", "gpu"), tiles=8)
    engine.run_until(lambda: stuck.process is not None and stuck.process.poll() is not None, "the end of the stuck worker")
    assert stuck.process is not None
    assert stuck.process.returncode == 1
    gpu_worker("other")
    engine.finish(workflow)
    assert states(workflow) == {"j": "SUCCEEDED"}
    assert workers_of(engine, Job.objects.get()) == {"other"}


def test_one_that_is_asked_to_stop_finishes_its_bundle(engine: Engine, gpu_worker: NewGpuWorker, alice: User) -> None:
    leaving = gpu_worker("leaving")
    workflow = submit(alice, ("j", "gpu"), tiles=48, seconds_per_tile=0.1)
    engine.run_until(lambda: is_running(workflow, tiles=8), "eight tiles")
    assert leaving.process is not None
    leaving.process.terminate()
    engine.run_until(lambda: leaving.process is not None and leaving.process.poll() is not None, "the worker's end")
    assert leaving.process.returncode == 0
    assert engine.loop._ledger.stale == 0
    gpu_worker("next")
    engine.finish(workflow)
    assert states(workflow) == {"j": "SUCCEEDED"}


def test_a_stop_ends_in_time_whatever_the_bundle_does(
    engine: Engine, gpu_worker: NewGpuWorker, redis_server: RedisServer, alice: User
) -> None:
    leaving = gpu_worker("leaving")
    workflow = submit(alice, ("j", "gpu"), tiles=8, seconds_per_tile=10)
    redis = connect(redis_server.url)
    engine.run_until(lambda: any(beat.bundles for beat in presence.live(redis)), "the bundle's begin")
    assert leaving.process is not None
    leaving.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert leaving.process.wait(timeout=PATIENCE_S) == 0
    assert time.monotonic() - began < 60
    assert not [beat for beat in presence.live(redis) if beat.name.startswith("leaving@")]
    workflow_cancel(workflow=workflow, actor="alice")
    engine.finish(workflow)


@pytest.mark.parametrize(
    ("options", "device", "reason"),
    [
        (("--pool", "prefork"), "cpu", "a worker of the queue gpu needs --pool solo"),
        (("--pool", "solo"), "cuda:77", "TORCH_DEVICE='cuda:77': "),
    ],
)
def test_one_without_a_device_or_of_another_pool_says_so_in_one_line_and_ends(
    redis_server: RedisServer, options: tuple[str, ...], device: str, reason: str
) -> None:
    command = (sys.executable, "-m", "celery", "--quiet", "-A", "workflowsite.celery", "worker", *options, "--queues", "gpu")
    environ = {**os.environ, "TORCH_DEVICE": device}
    ended = subprocess.run(command, cwd=BASE_DIR, env=environ, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    (line,) = (line for line in ended.stderr.splitlines() if line.startswith("error: "))  # Celery warns those who are root
    assert line.startswith(f"error: {reason}")

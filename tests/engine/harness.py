"""A real Celery worker in its own process, and the real loop in this one; both on the session's Redis."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
from django.conf import settings
from redis import Redis

from scheduling.engine.config import EngineConfig
from scheduling.leader.loop import SchedulerLoop
from scheduling.leader.pool import CeleryPool
from scheduling.models import Job, User, Workflow
from scheduling.protocol import presence
from scheduling.protocol.inbox import Inbox, connect
from scheduling.services.workflows import JobRequest, WorkflowRequest, workflow_submit
from scheduling.states import FINISHED_WORKFLOW, JobState
from scheduling.store.lease import acquire
from tests.support.waiting import PATIENCE_S, eventually

PROCESSES = 4
BASE_DIR = Path(__file__).resolve().parents[2]
#: Celery's command line under the name of another version of the code.
AS_VERSION = """
import sys, scheduling.version
version = sys.argv.pop(1)
scheduling.version.code_version = lambda: version
"""
#: Celery's command line after some other program.
CELERY = """
import sys
from celery.__main__ import main
sys.argv[0] = "celery"
main()
"""


class Worker:
    """A Celery worker that can be killed, stopped and started again."""

    def __init__(
        self,
        url: str,
        name: str = "tests",
        processes: int = PROCESSES,
        version: str = "",
        queue: str = "cpu",
        before: str = "",
        **environ: str,
    ) -> None:
        self._url, self._name, self._environ = url, name, environ
        #: What is run in the worker's process before Celery.
        self._program = ("-c", AS_VERSION + CELERY, version) if version else ("-c", before + CELERY) if before else ("-m", "celery")
        pool = ("--pool", "solo") if queue == "gpu" else ("--concurrency", str(processes))
        self._options = (*pool, "--queues", queue, "--hostname", f"{name}@%h", "--loglevel", "WARNING")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait for its heartbeat."""
        quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
        command = (sys.executable, *self._program, "-A", "workflowsite.celery", "worker", *self._options, *quiet)
        with (settings.DATA_DIR / "worker.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=BASE_DIR, env={**os.environ, **self._environ}, stdout=log, stderr=log, start_new_session=True
            )
        redis = connect(self._url)
        eventually(lambda: self._lives() and self._beats(redis), "a heartbeat of the worker")

    def _beats(self, redis: Redis) -> bool:
        return any(heartbeat.name.startswith(f"{self._name}@") for heartbeat in presence.live(redis))

    def _lives(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (settings.DATA_DIR / "worker.log").read_text()[-2000:]
        return True

    def children(self) -> list[psutil.Process]:
        """The processes that compute tiles."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children()

    def kill(self) -> None:
        """SIGKILL to all of it."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """A warm stop; kills what does not end."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.kill()


class Engine:
    """The loop of one leader after another over the test's database."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.started = 0
        self.lead()

    def lead(self, max_workers: int = PROCESSES, max_concurrent_users: int = 3, slot_max_s: float = 0.0, **times: float) -> None:
        """Begin a new term; a leader before it is gone as if it had been killed."""
        self.started += 1
        config = EngineConfig(
            data_dir=settings.DATA_DIR,
            max_workers=max_workers,
            max_concurrent_users=max_concurrent_users,
            slot_max_s=slot_max_s,
            **{"lost_after_s": 2.0, "tick_s": 0.2, **times},  # type: ignore[arg-type]
        )
        redis = connect(self._url)
        lease = acquire("the tests", config.lease_s)
        assert lease is not None
        self.lease, self.pool, self.inbox = lease, CeleryPool(redis, unserved_s=2.0), RecordingInbox(redis)
        self.loop = SchedulerLoop(config=config, lease=lease, inbox=self.inbox, pool=self.pool)
        self.loop.begin()

    def run_until(self, condition: Callable[[], bool], what: str, within_s: float = PATIENCE_S) -> None:
        """Step the loop until the condition holds."""

        def step() -> bool:
            self.loop.run_once(0.05)
            return condition()

        eventually(step, what, within_s=within_s)

    def finish(self, *workflows: Workflow, within_s: float = PATIENCE_S) -> None:
        """Step the loop until these workflows have ended."""
        keys = [workflow.pk for workflow in workflows]

        def ended() -> bool:
            return not Workflow.objects.filter(pk__in=keys).exclude(status__in=FINISHED_WORKFLOW).exists()

        self.run_until(ended, "the end of the workflows", within_s)


class RecordingInbox(Inbox):
    """The real inbox; remembers what it delivered."""

    def __init__(self, redis: object) -> None:
        super().__init__(redis)  # type: ignore[arg-type]
        self.delivered: list[dict[str, object]] = []

    def take(self, term: int, *, timeout_s: float) -> tuple[list[dict[str, object]], bool]:
        """As Inbox.take."""
        outcomes, is_poked = super().take(term, timeout_s=timeout_s)
        self.delivered += outcomes
        return outcomes, is_poked


def submit(user: User, *jobs: tuple[str, str], **parameters: object) -> Workflow:
    """A workflow of simulated SEGMENT_CELLS jobs given as (job_id, branch), with these parameters."""
    requests = tuple(JobRequest(job_id=j, branch=b, job_type="SEGMENT_CELLS", parameters=dict(parameters)) for j, b in jobs)
    return workflow_submit(user=user, request=WorkflowRequest(jobs=requests))


def states(workflow: Workflow) -> dict[str, str]:
    """State by job_id."""
    return dict(Job.objects.filter(workflow=workflow).values_list("job_id", "state"))


def is_running(workflow: Workflow, tiles: int = 1) -> bool:
    """Whether a job of the workflow runs and has finished so many tiles."""
    return Job.objects.filter(workflow=workflow, state=JobState.RUNNING, tiles_processed__gte=tiles).exists()

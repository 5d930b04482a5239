"""Short ways to make users, slides and workflows, to lead, and to do two things at once on connections of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.db import connection, connections

from scheduling.engine.entry import Claimed, End
from scheduling.engine.policy import Limits
from scheduling.models import Job, Slide, User, Workflow
from scheduling.services.workflows import JobRequest, WorkflowRequest, workflow_submit
from scheduling.states import UNFINISHED, JobState
from scheduling.store.lease import Lease, acquire
from scheduling.store.reconcile import Held, Pass, reconcile

S, F, C = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED


def new_user(name: str = "alice", **fields: Any) -> User:
    """A tenant."""
    return User.objects.create(username=name, **fields)


def new_slide(owner: User, name: str = "a.tiff", **fields: Any) -> Slide:
    """A slide's row; there is no file behind it."""
    base = {
        "path": f"slides/{name}",
        "size_bytes": 1,
        "fingerprint": f"print-{name}",
        "width": 100,
        "height": 80,
        "mpp": 0.5,
        "format": "tiff",
    }
    return Slide.objects.create(owner=owner, name=name, **{**base, **fields})


def request(*jobs: str | JobRequest, **fields: Any) -> WorkflowRequest:
    """A workflow of simulated segmentations, "<job_id> <branch>" each."""
    return WorkflowRequest(jobs=tuple(_job(job) for job in jobs), **fields)


def _job(job: str | JobRequest) -> JobRequest:
    if isinstance(job, JobRequest):
        return job
    job_id, _, branch = job.partition(" ")
    return JobRequest(job_id=job_id, branch=branch or "b1", job_type="SEGMENT_CELLS")


def submit(user: User, *jobs: str | JobRequest, **fields: Any) -> Workflow:
    """Submit `request(...)`."""
    return workflow_submit(user=user, request=request(*(jobs or ("j1",)), **fields))


def job_of(workflow: Workflow, job_id: str = "j1") -> Job:
    """A job as it now is."""
    return Job.objects.select_related("workflow").get(workflow=workflow, job_id=job_id)


def states(workflow: Workflow) -> dict[str, str]:
    """States by job_id."""
    return dict(Job.objects.filter(workflow=workflow).order_by("id").values_list("job_id", "state"))


def status(workflow: Workflow) -> str:
    """The workflow's status as it now is."""
    return Workflow.objects.get(pk=workflow.pk).status


def waits(user: User) -> bool:
    """Whether the user queues for a slot."""
    return User.objects.filter(pk=user.pk, waiting_since__isnull=False).exists()


def is_active(user: User) -> bool:
    """Whether the user has a slot."""
    return User.objects.filter(pk=user.pk, slot__isnull=False).exists()


def assert_nobody_is_forgotten() -> None:
    """Who has unfinished work is active or waits, not both; who has none waits for nothing."""
    for user in User.objects.all():
        has_work = Job.objects.filter(owner=user, state__in=UNFINISHED).exists()
        assert (is_active(user) + waits(user) == 1) if has_work else not waits(user), user.username


@dataclass
class Leader:
    """A scheduler without loop and workers: makes passes, and ends jobs as told."""

    lease: Lease
    max_workers: int = 4
    max_active_users: int = 3
    slot_max_s: float = 0.0
    #: What workers serve, and for whose work slots are given.
    queues: frozenset[str] = frozenset({"cpu"})
    expected: frozenset[str] = frozenset({"cpu"})
    held: dict[int, Claimed] = field(default_factory=dict)
    #: Jobs being taken back.
    yielding: frozenset[int] = frozenset()

    def look(self, *ends: End) -> Pass:
        """One pass."""
        limits = Limits(
            max_workers=self.max_workers,
            max_active_users=self.max_active_users,
            queues=self.queues,
            expected=self.expected,
            slot_max_s=self.slot_max_s,
        )
        result = reconcile(self.lease, Held(ends=ends, running=frozenset(self.held), yielding=self.yielding), limits)
        self.yielding = (self.yielding | {preemption.job for preemption in result.preempt}) - {end.job for end in ends}
        for end in ends:
            self.held.pop(end.job, None)
        self.held |= {claimed.job: claimed for claimed in result.claimed}
        return result

    def ending(self, workflow: Workflow, job_id: str = "j1", state: JobState = S, **changes: Any) -> End:
        """How a held job is to end."""
        job = job_of(workflow, job_id)
        base = {"epoch": job.epoch, "tiles_processed": job.tiles_total or 0, "tiles_total": job.tiles_total}
        return End(**{"job": job.pk, "state": state, **base, **changes})

    def end(self, workflow: Workflow, job_id: str = "j1", state: JobState = S, **changes: Any) -> Pass:
        """End a job and let the next begin."""
        return self.look(self.ending(workflow, job_id, state, **changes))

    def settle(self) -> None:
        """Pass until nothing more is decided."""
        while self.look().has_decided:
            pass


def lead(holder: str = "test/1/1.0", **limits: int) -> Leader:
    """Become the leader; whoever was trusted is trusted no more."""
    from scheduling.models import SchedulerLease

    SchedulerLease.objects.update(trusted_until=None)
    lease = acquire(holder, 60.0)
    assert lease is not None
    return Leader(lease, **limits)


def at_once(*actions: Callable[[], Any]) -> list[Any]:
    """Do all of these at the same time, each on a connection of its own: their values, exceptions in place of them."""
    gate = threading.Barrier(len(actions))
    results: list[Any] = [None] * len(actions)

    def act(place: int) -> None:
        try:
            gate.wait()
            results[place] = actions[place]()
        except Exception as error:  # noqa: BLE001  (the test looks at it)
            results[place] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=act, args=(place,)) for place in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def refuse_exceptions(results: list[Any], *allowed: type[Exception]) -> None:
    """Raise the first result that is an exception not allowed."""
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, allowed):
            raise result


def is_postgres() -> bool:
    """Whether the database is PostgreSQL."""
    return connection.vendor == "postgresql"

"""What the database is to the product: users, slots, lanes and jobs of the simulation, and the facts that the policy decides from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from uuid import UUID

from scheduling.engine.entry import Claimed, End
from scheduling.engine.policy import Head, Limits, Running, Slot, Snapshot, Waiting
from scheduling.jobtypes.base import JobSpec
from scheduling.simulator.scenario import JobPlan
from scheduling.states import JobState

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
#: As a job whose type is not known yet to the leader is guessed.
FIRST_GUESS_S = 0.25


def at(now: float) -> datetime:
    """Virtual seconds as a time."""
    return BEGAN + timedelta(seconds=now)


@dataclass(kw_only=True)
class SimJob:
    """A job and how it stands. `done` is what lies on the disk: one byte a tile."""

    key: int
    user: int
    workflow: int
    plan: JobPlan
    lane: str
    submitted_s: float
    state: JobState = JobState.PENDING
    epoch: int = 0
    done: bytearray = field(default_factory=bytearray)
    begun_s: float | None = None
    ended_s: float | None = None
    shown: int = 0

    @property
    def uuid(self) -> str:
        """As text."""
        return str(UUID(int=self.key))

    def ranges(self) -> Iterator[tuple[int, int]]:
        """The tiles on the disk as half-open ranges."""
        start = self.done.find(1)
        while start >= 0:
            stop = self.done.find(0, start)
            stop = len(self.done) if stop < 0 else stop
            yield start, stop
            start = self.done.find(1, stop)


class Books:
    """All that a leader finds when it begins."""

    def __init__(self) -> None:
        self.jobs: dict[int, SimJob] = {}
        self.slots: dict[int, float] = {}
        self.waiting: dict[int, float] = {}
        self.running: dict[int, SimJob] = {}
        #: PENDING jobs of each user in order of submission.
        self.pending: dict[int, dict[int, SimJob]] = {}
        #: Queues for whose work slots are given, as a leader last said.
        self.expected = frozenset({"cpu"})
        self.epoch = 0

    def submit(self, job: SimJob) -> None:
        """A new job waits."""
        self.jobs[job.key] = job
        self.pending.setdefault(job.user, {})[job.key] = job

    def has_work(self, user: int) -> bool:
        """Whether the user has unfinished jobs."""
        return bool(self.pending.get(user)) or any(job.user == user for job in self.running.values())

    def can_run(self, user: int) -> bool:
        """Whether one of them runs, or is next in its lane and of an expected queue."""
        seen = {job.lane for job in self.running.values() if job.user == user}
        return bool(seen) or any(job.plan.queue in self.expected for job in self._next(user, seen))

    def _next(self, user: int, seen: set[str]) -> Iterator[SimJob]:
        """The first waiting job of each lane that is not among `seen`."""
        for job in self.pending.get(user, {}).values():
            if job.lane not in seen:
                seen.add(job.lane)
                yield job

    def claim(self, key: int, weight: float) -> Claimed:
        """Start a job with a new epoch, as the store does; a job that ran before is planned anew."""
        job = self.jobs[key]
        is_fresh = job.epoch == 0
        self.epoch += 1
        job.epoch, job.state = self.epoch, JobState.RUNNING
        self.pending[job.user].pop(key, None)
        self.running[key] = job
        return Claimed(
            job=key,
            user=job.user,
            weight=weight,
            workflow=UUID(int=job.workflow),
            attempt=1,
            epoch=job.epoch,
            queue=job.plan.queue,
            spec=JobSpec(id=job.uuid, owner=str(job.user), job_type="SIMULATED", parameters={}, slide=None),
            tiles_total=job.plan.tiles if is_fresh else None,
            seconds_per_tile=FIRST_GUESS_S,
            tiles_processed=job.shown,
        )

    def end(self, end: End, now: float) -> None:
        """A job ends, or waits again with what it has finished."""
        job = self.running.pop(end.job)
        job.state, job.shown = end.state, end.tiles_processed
        if end.state == JobState.PENDING:
            self.pending[job.user] = dict(sorted({**self.pending[job.user], job.key: job}.items()))
        else:
            job.ended_s = now

    def snapshot(self, limits: Limits, virtual_times: dict[int, float], yielding: frozenset[int]) -> Snapshot:
        """As `store.snapshot` reads it."""
        able = [user for user in self.waiting if self.can_run(user)]
        queue = sorted(able, key=lambda user: (self.waiting[user], user))[: limits.max_active_users]
        active = [user for user in self.slots if self.can_run(user)]
        wanted = max(1, limits.max_workers - len(self.running))
        users = active + queue[: max(0, limits.max_active_users - len(active))]
        return Snapshot(
            slots=tuple(Slot(user=user, since=at(since), can_run=user in active) for user, since in self.slots.items()),
            waiting=tuple(Waiting(user=user, since=at(self.waiting[user])) for user in queue),
            running=tuple(
                Running(
                    job=job.key,
                    user=job.user,
                    lane=job.lane,
                    epoch=job.epoch,
                    queue=job.plan.queue,
                    is_yielding=job.key in yielding,
                )
                for job in self.running.values()
            ),
            heads=tuple(head for user in users for head in islice(self._heads(user, limits.queues), wanted)),
            virtual_times=virtual_times,
        )

    def _heads(self, user: int, queues: frozenset[str]) -> Iterator[Head]:
        busy = {job.lane for job in self.running.values()}
        for job in self._next(user, busy):
            if job.plan.queue in queues:
                yield Head(job=job.key, user=user, lane=job.lane, queue=job.plan.queue)

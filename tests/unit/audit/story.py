"""Event logs for the checker's tests: a story is told move by move, and each move is written down whether it is right or not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from scheduling.audit.checker import Checker
from scheduling.audit.judging import Violation
from scheduling.audit.log_event import LogEvent
from scheduling.states import FINISHED_WORKFLOW, UNFINISHED, JobState, WorkflowStatus, workflow_status
from scheduling.tilestore.tilefiles import index_digest
from tests.unit.engine.making import BEGAN

S, F, C = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED


@dataclass(eq=False)
class ToldFlow:
    """A workflow of the story."""

    uuid: str
    user: int
    jobs: list[ToldJob] = field(default_factory=list)
    status: WorkflowStatus = WorkflowStatus.ACCEPTED
    has_started: bool = False
    is_paused: bool = False

    def __getitem__(self, name: str) -> ToldJob:
        return next(job for job in self.jobs if job.name == name)


@dataclass(eq=False)
class ToldJob:
    """A job of the story."""

    uuid: str
    name: str
    branch: str
    lane: str
    order: int
    flow: ToldFlow
    needs: tuple[str, ...]
    queue: str = "cpu"
    total: int = 4
    state: JobState = JobState.PENDING
    attempt: int = 1
    epoch: int = 0
    tiles: int = 0
    not_before: datetime | None = None
    cancel_requested: bool = False


class Story:
    """A log in the making, with the facts that the next event needs. A second passes before each move."""

    def __init__(self, **limits: Any) -> None:
        self.events: list[LogEvent] = []
        self.now = BEGAN
        self.term = self.epoch = self._order = self._flows = 0
        self.flows: list[ToldFlow] = []
        self.slots: dict[int, datetime] = {}
        self.queue: dict[int, datetime] = {}
        self.limits = {"max_workers": 4, "max_active_users": 3, "slot_max_s": 0.0, "queues": ["cpu"], **limits}
        self.elect()

    def write(self, kind: str, **fields: Any) -> LogEvent:
        """Any event, right or wrong."""
        event = LogEvent(
            **{"id": len(self.events) + 1, "at": self.now, "type": kind, "actor": "scheduler" if fields.get("term") else "test", **fields}
        )
        self.events.append(event)
        return event

    def wait(self, seconds: float = 1.0) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    # -- the leader

    def elect(self, **data: Any) -> None:
        """A new leader."""
        self.wait()
        self.term += 1
        self.write("leader.elected", term=self.term, data={"holder": "h", **self.limits, **data})

    def admit(self, user: int, *, after_s: float = 1.0, **data: Any) -> None:
        """The user gets a slot."""
        self.wait(after_s)
        told = {"since": self.now.isoformat(), "waited_since": self.queue.pop(user, self.now).isoformat(), **data}
        self.write("user.admitted", user=user, term=self.term, reason="longest waiting", data=told)
        self.slots[user] = self.now

    def release(self, user: int) -> None:
        """The user's slot is over."""
        self.slots.pop(user, None)
        self.write("user.released", user=user, term=self.term, reason="no work that is not paused")

    def release_stuck(self, user: int) -> None:
        """The user's slot is over, and the user waits again: there is work, and none of it can run."""
        self.slots.pop(user, None)
        self.write("user.released", user=user, term=self.term, reason="no work that can run", data={"unserved": ["gpu"]})
        self.queue[user] = self.now
        self.write("user.waiting", user=user, term=self.term, data={"since": self.now.isoformat()})

    def expect(self, *queues: str) -> None:
        """From now on slots are given for the work of these queues."""
        self.wait()
        self.limits["queues"] = sorted(queues)
        self.write("leader.queues", term=self.term, data={"queues": sorted(queues)})

    def requeue(self, user: int) -> None:
        """The user's tenure is over."""
        self.slots.pop(user, None)
        self.queue[user] = self.now
        self.write("user.requeued", user=user, term=self.term, data={"since": self.now.isoformat()})

    def start(self, job: ToldJob, **fields: Any) -> None:
        """Claim a job."""
        self.wait()
        self.epoch += 1
        job.state, job.epoch, job.not_before = JobState.RUNNING, self.epoch, None
        self.tell("job.started", job, **{"term": self.term, "epoch": job.epoch, "reason": "head of its branch", **fields})
        job.flow.has_started = True
        self.follow(job.flow, self.term)

    def take_over(self, job: ToldJob, **fields: Any) -> None:
        """A running job gets a new epoch."""
        self.epoch += 1
        job.epoch = self.epoch
        self.tell("job.taken_over", job, **{"term": self.term, "epoch": job.epoch, **fields})

    def take_back(self, job: ToldJob, tiles: int = 2, retry_in_s: float | None = None) -> None:
        """A running job waits again."""
        self.wait()
        job.state, job.tiles = JobState.PENDING, tiles
        job.not_before = self.now + timedelta(seconds=retry_in_s) if retry_in_s is not None else None
        self.tell("job.taken_back", job, {"tiles": tiles, "retry_in_s": retry_in_s}, term=self.term, epoch=job.epoch, reason="preempted")

    def finish(self, job: ToldJob, state: JobState = S, **data: Any) -> None:
        """A running job ends; `data` changes what is told of its tiles."""
        self.wait()
        job.state, job.tiles = state, job.total if state is S else job.tiles
        self._tell_end(job, data, term=self.term, epoch=job.epoch)
        self.follow(job.flow, self.term)

    def give_up(self, job: ToldJob) -> None:
        """The leader cancels a job that waits."""
        job.state = C
        self._tell_end(job, term=self.term)
        self.follow(job.flow, self.term)

    # -- the web process

    def submit(self, user: int, *jobs: str, scope: str = "workflow", **data: Any) -> ToldFlow:
        """A workflow of jobs "<job_id> <branch> <needed job_id> …"; a job_id that begins with "gpu" needs that queue."""
        self.wait()
        self._flows += 1
        flow = ToldFlow(str(UUID(int=self._flows)), user)
        self.flows.append(flow)
        told = {"jobs": len(jobs), "branches": 1, "branch_scope": scope, "on_failure": "continue", **data}
        self.write("workflow.submitted", user=user, workflow=flow.uuid, data=told)
        for text in jobs:
            name, branch, *needs = text.split()
            self._order += 1
            owner = f"u{user}" if scope == "user" else f"w{self._flows}"
            queue = "gpu" if name.startswith("gpu") else "cpu"
            job = ToldJob(str(UUID(int=self._order << 64)), name, branch, f"{owner}/{branch}", self._order, flow, tuple(needs), queue)
            flow.jobs.append(job)
            told = {"order": job.order, "tiles_total": job.total, "depends_on": list(needs), "queue": queue}
            self.tell("job.submitted", job, told)
        self.refresh(user)
        return flow

    def cancel(self, *jobs: ToldJob) -> None:
        """A user wants jobs of one workflow to end."""
        self.wait()
        for job in jobs:
            if job.state is JobState.PENDING:
                job.state = C
                self._tell_end(job)
            else:
                job.cancel_requested = True
                self.tell("job.cancel_requested", job)
        self.follow(jobs[0].flow)
        self.refresh(jobs[0].flow.user)

    def retry(self, *jobs: ToldJob) -> None:
        """A user wants jobs of one workflow tried again."""
        self.wait()
        for job in jobs:
            job.state, job.tiles, job.cancel_requested, job.not_before = JobState.PENDING, 0, False, None
            job.attempt += 1
            self.tell("job.retried", job)
        self.follow(jobs[0].flow)
        self.refresh(jobs[0].flow.user)

    def pause(self, flow: ToldFlow, *, paused: bool = True) -> None:
        """A user pauses a workflow, or lets it go on."""
        self.wait()
        flow.is_paused = paused
        self.write("workflow.paused" if paused else "workflow.resumed", user=flow.user, workflow=flow.uuid)
        self.refresh(flow.user)

    # -- what follows

    def tell(self, kind: str, job: ToldJob, data: dict[str, Any] | None = None, **fields: Any) -> LogEvent:
        """An event about a job."""
        common = {"job_id": job.name, "branch": job.branch, "job_type": "SEGMENT_CELLS", "attempt": job.attempt, "lane": job.lane}
        told = {**common, **(data or {})}
        return self.write(kind, **{"user": job.flow.user, "workflow": job.flow.uuid, "job": job.uuid, "data": told, **fields})

    def follow(self, flow: ToldFlow, term: int = 0) -> None:
        """The workflow's status follows its jobs."""
        counts = dict.fromkeys(JobState, 0)
        for job in flow.jobs:
            counts[job.state] += 1
        status = workflow_status(counts, has_started=flow.has_started)
        if status != flow.status:
            was_finished, is_finished = flow.status in FINISHED_WORKFLOW, status in FINISHED_WORKFLOW
            kind = "workflow.finished" if is_finished else "workflow.reopened" if was_finished else "workflow.started"
            self.write(kind, user=flow.user, workflow=flow.uuid, term=term, data={"status": status.value})
        flow.status = status

    def refresh(self, user: int) -> None:
        """The user begins to wait, or waits no more."""
        has_work = bool(self.open_jobs(user))
        if has_work and user not in self.slots and user not in self.queue:
            self.queue[user] = self.now
            self.write("user.waiting", user=user, data={"since": self.now.isoformat()})
        elif not has_work and user in self.queue:
            del self.queue[user]
            self.write("user.left_queue", user=user)

    def open_jobs(self, user: int) -> list[ToldJob]:
        """Unfinished jobs that are not paused."""
        return [job for job in self.jobs() if job.flow.user == user and job.state in UNFINISHED and not job.flow.is_paused]

    def jobs(self) -> Iterable[ToldJob]:
        """All jobs, in order of submission."""
        return (job for flow in self.flows for job in flow.jobs)

    def _tell_end(self, job: ToldJob, data: dict[str, Any] | None = None, **fields: Any) -> None:
        sha = index_digest([[0, job.tiles]] if job.tiles else [])
        end = {"state": job.state.value, "tiles": job.tiles, "tiles_total": job.total, "index_sha256": sha, "cached": False}
        reason = "" if job.state is S else "something went wrong"
        self.tell("job.finished", job, {**end, **(data or {})}, reason=reason, **fields)


def check(events: Iterable[LogEvent], *, finished: bool = True, **options: Any) -> list[Violation]:
    """What the checker finds."""
    checker = Checker(**options)
    return [*checker.read(events), *checker.finish(must_be_finished=finished)]


def rules_of(found: Iterable[Violation]) -> set[str]:
    """The rules that are broken."""
    return {violation.rule for violation in found}

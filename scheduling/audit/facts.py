"""What the log has told so far: jobs, lanes, workflows, users, the leader. `telling` changes them, the rules only read them."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from scheduling.states import UNFINISHED, JobState, WorkflowStatus


@dataclass(slots=True, eq=False)
class Lane:
    """What runs serially."""

    name: str
    running: int = 0
    #: PENDING jobs by their order, and a heap of the orders; an order that left stays in the heap until it comes to the top.
    pending: dict[int, Job] = field(default_factory=dict)
    _orders: list[int] = field(default_factory=list)

    def add(self, job: Job) -> None:
        """A job waits in its place."""
        if job.order is not None and job.order not in self.pending:
            self.pending[job.order] = job
            heapq.heappush(self._orders, job.order)

    def remove(self, job: Job) -> None:
        """A job waits no more."""
        if job.order is not None:
            self.pending.pop(job.order, None)

    def first(self) -> Job | None:
        """The waiting job that was submitted first."""
        while self._orders and self._orders[0] not in self.pending:
            heapq.heappop(self._orders)
        return self.pending[self._orders[0]] if self._orders else None

    def next(self) -> Job | None:
        """The first waiting job, if nothing runs before it."""
        return None if self.running else self.first()

    @property
    def is_empty(self) -> bool:
        """Nothing waits or runs in it."""
        return not (self.pending or self.running)


@dataclass(slots=True, eq=False)
class User:
    """A user's slot, place in the queue and amount of work."""

    key: int
    #: False for one whose beginning the log does not hold.
    is_known: bool = True
    has_slot: bool = False
    slot_since: datetime | None = None
    waiting_since: datetime | None = None
    #: When the log said so, if a web process did; its row may have been committed a little later.
    told_waiting_at: datetime | None = None
    #: Jobs that are unfinished, in workflows that were submitted in this log and are not paused.
    open: int = 0
    running: int = 0
    #: Lanes in which something of the user waits or runs, by name.
    lanes: dict[str, Lane] = field(default_factory=dict)
    #: The last event about the user or the user's work.
    told_at: datetime | None = None
    #: When the user last waited with nothing that could run, at an event that may have changed that.
    stuck_at: datetime | None = None
    last_order: int = 0


@dataclass(slots=True, eq=False)
class Workflow:
    """A workflow and its jobs by job_id."""

    uuid: str
    user: User
    #: False for one whose submission the log does not hold: it may be paused, so its jobs do not count as open.
    is_told: bool = True
    #: Its branches are those of all of the user's workflows: jobs that this log does not hold may be before its own.
    shares_lanes: bool = False
    #: How many jobs it was submitted with; None when the log does not hold that.
    size: int | None = None
    jobs: dict[str, Job] = field(default_factory=dict)
    status: WorkflowStatus = WorkflowStatus.ACCEPTED
    has_started: bool = False
    is_paused: bool = False
    unfinished: int = 0

    @property
    def is_open(self) -> bool:
        """Whether its unfinished jobs ask for a slot."""
        return self.is_told and not self.is_paused

    @property
    def is_whole(self) -> bool:
        """Whether every job of it is known."""
        return self.size == len(self.jobs)

    def counts(self) -> dict[JobState, int]:
        """The number of jobs in each state."""
        counts = dict.fromkeys(JobState, 0)
        for job in self.jobs.values():
            counts[job.state] += 1
        return counts


@dataclass(slots=True, eq=False)
class Job:
    """A job, its last claim and its tiles."""

    uuid: str
    name: str
    user: User
    workflow: Workflow
    #: Its name.
    lane: str
    #: Place in the lane; None when the log does not hold its submission.
    order: int | None
    #: None when the log does not hold its submission.
    queue: str | None = None
    needs: tuple[str, ...] = ()
    state: JobState = JobState.PENDING
    attempt: int = 1
    epoch: int = 0
    #: Of this attempt.
    tiles: int = 0
    total: int | None = None
    not_before: datetime | None = None
    #: Whether its user asked for its end; None when that may have been before the log begins.
    cancel_requested: bool | None = False
    #: Id of the last event about it.
    told: int = 0


@dataclass(slots=True)
class Leader:
    """Who was elected last, with which limits. None: not told."""

    term: int = 0
    has_resigned: bool = False
    epoch: int = 0
    max_workers: int | None = None
    max_active_users: int | None = None
    slot_max_s: float | None = None
    #: Queues for whose work slots are given, and since when.
    queues: frozenset[str] | None = None
    queues_at: datetime | None = None
    #: The operator lets the work run out; the last time that this changed.
    is_draining: bool = False
    drained_at: datetime | None = None


class Gone(Enum):
    """Why nothing more may happen to a workflow and its jobs, which is all that is kept of them."""

    SUCCEEDED = "has SUCCEEDED"
    DELETED = "was deleted"


class Facts:
    """Everything that is known after the events so far.

    `is_partial`: the log lacks its beginning; what is met for the first time is then taken at face value.
    """

    def __init__(self, *, is_partial: bool = False) -> None:
        self.is_partial = is_partial
        self.leader = Leader()
        self.jobs: dict[str, Job | Gone] = {}
        self.workflows: dict[str, Workflow | Gone] = {}
        self.users: dict[int, User] = {}
        self.lanes: dict[str, Lane] = {}
        #: Users who queue for a slot, by key.
        self.queue: dict[int, User] = {}
        self.active: dict[int, User] = {}
        self.running = 0
        self.terms = 0
        self.jobs_seen = 0

    def user(self, key: int) -> User:
        """The user; made when it is new."""
        user = self.users.get(key)
        if user is None:
            user = self.users[key] = User(key, is_known=not self.is_partial)
        return user

    def lane(self, name: str) -> Lane:
        """The lane; made when it is new or was empty."""
        lane = self.lanes.get(name)
        if lane is None:
            lane = self.lanes[name] = Lane(name)
        return lane

    def can_run(self, user: User) -> bool:
        """Whether something of a user of whom nothing runs could: it waits for no other job, is not paused, and of an expected queue.

        False where the log does not hold enough to be sure.
        """
        return any(self._is_free(job) for lane in user.lanes.values() if (job := lane.next()) is not None)

    def _is_free(self, job: Job) -> bool:
        """Of the job that is next in its lane: nothing but room is wanting."""
        workflow = job.workflow
        if not workflow.is_open or (self.is_partial and workflow.shares_lanes) or not self._is_expected(job.queue):
            return False
        needs = [workflow.jobs.get(name) for name in job.needs]
        return all(need is not None and need.state not in UNFINISHED for need in needs)

    def _is_expected(self, queue: str | None) -> bool:
        """Whether slots are given for work of a queue. Leaders of earlier versions told no queues, and asked for none."""
        expected = self.leader.queues
        return not self.is_partial if expected is None else queue in expected

    def note(self, user: User, at: datetime) -> None:
        """Something happens to the user, or to the user's work."""
        user.told_at = at
        if user.key in self.queue and not self.can_run(user):
            user.stuck_at = at

    # -- moves; each keeps every count

    def put(self, job: Job, state: JobState) -> None:
        """A job goes from one state to another."""
        self.take_out(job)
        job.state = state
        self.bring_in(job)

    def bring_in(self, job: Job) -> None:
        """Count a job where its state says."""
        if job.state not in UNFINISHED:
            return
        job.workflow.unfinished += 1
        if job.workflow.is_open:
            job.user.open += 1
        lane = job.user.lanes[job.lane] = self.lane(job.lane)
        if job.state is JobState.PENDING:
            lane.add(job)
        else:
            lane.running += 1
            job.user.running += 1
            self.running += 1

    def take_out(self, job: Job) -> None:
        """Inverse of bring_in."""
        if job.state not in UNFINISHED:
            return
        job.workflow.unfinished -= 1
        if job.workflow.is_open:
            job.user.open -= 1
        lane = self.lane(job.lane)
        if job.state is JobState.PENDING:
            lane.remove(job)
        else:
            lane.running -= 1
            job.user.running -= 1
            self.running -= 1
        if lane.is_empty:
            del self.lanes[job.lane]
            job.user.lanes.pop(job.lane, None)

    def set_paused(self, workflow: Workflow, *, paused: bool) -> None:
        """A workflow's jobs count as open, or do not."""
        if paused == workflow.is_paused:
            return
        workflow.is_paused = paused
        if workflow.is_told:
            workflow.user.open += -workflow.unfinished if paused else workflow.unfinished

    def set_slot(self, user: User, since: datetime | None) -> None:
        """A user becomes active, and waits no more."""
        user.is_known = user.has_slot = True
        user.slot_since = since
        self.active[user.key] = user
        self.set_waiting(user, None)

    def clear_slot(self, user: User) -> None:
        """A user is active no more."""
        user.is_known, user.has_slot, user.slot_since = True, False, None
        self.active.pop(user.key, None)

    def set_waiting(self, user: User, since: datetime | None, told_at: datetime | None = None) -> None:
        """A user queues since then, or (None) does not queue."""
        user.is_known = True
        user.waiting_since, user.told_waiting_at = since, told_at
        if since is None:
            self.queue.pop(user.key, None)
        else:
            self.queue[user.key] = user

    def settle(self, workflow: Workflow, why: Gone) -> None:
        """Nothing more may happen to this workflow: keep no more of it than that."""
        for job in workflow.jobs.values():
            self.jobs[job.uuid] = why
        self.workflows[workflow.uuid] = why

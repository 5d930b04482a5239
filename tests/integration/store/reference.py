"""A plain model of what the store keeps: dicts and lists, moved by the rules as they are written down, without a database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

P, R, S, F, C = "PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"
UNFINISHED = {P, R}


@dataclass
class JobFact:
    """A job. `key` orders by submission."""

    key: int
    user: int
    flow: int
    branch: str
    lane: str
    needs: frozenset[int] = frozenset()
    queue: str = "cpu"
    state: str = P
    attempt: int = 1
    epoch: int = 0
    #: A user wants it to end.
    asked: bool = False


@dataclass
class FlowFact:
    """A workflow."""

    key: int
    user: int
    stops: bool
    paused: bool = False
    started: bool = False


@dataclass
class Reference:
    """Users, workflows and jobs as they should be."""

    max_workers: int
    max_users: int
    jobs: dict[int, JobFact] = field(default_factory=dict)
    flows: dict[int, FlowFact] = field(default_factory=dict)
    slots: set[int] = field(default_factory=set)
    #: Users who wait for a slot, the longest waiting first.
    queue: list[int] = field(default_factory=list)
    #: Queues that workers serve, and those for whose work slots are given.
    served: frozenset[str] = frozenset({"cpu"})
    expected: frozenset[str] = frozenset({"cpu"})
    last_epoch: int = 0

    # -- facts

    def jobs_of(self, flow: int) -> list[JobFact]:
        """The jobs of a workflow, in order."""
        return [job for job in self.jobs.values() if job.flow == flow]

    def in_state(self, *states: str) -> list[JobFact]:
        """Jobs in one of these states."""
        return [job for job in self.jobs.values() if job.state in states]

    def has_work(self, user: int) -> bool:
        """Unfinished work that is not paused."""
        return any(job.user == user and not self.flows[job.flow].paused for job in self.in_state(P, R))

    def can_run(self, user: int) -> bool:
        """Some unfinished job of an expected queue is not paused and waits for no other."""
        return any(job.user == user and job.queue in self.expected and self.is_free(job) for job in self.in_state(P, R))

    def is_free(self, job: JobFact) -> bool:
        """The first unfinished job of its lane, not held back by a pause or by another job."""
        if self.flows[job.flow].paused or any(self.jobs[need].state in UNFINISHED for need in job.needs):
            return False
        return min(other.key for other in self.in_state(P, R) if other.lane == job.lane) == job.key

    def status(self, flow: int) -> str:
        """As the workflow's jobs say."""
        states = {job.state for job in self.jobs_of(flow)}
        if states & UNFINISHED:
            return R if self.flows[flow].started else "ACCEPTED"
        return F if F in states else C if C in states else S

    def is_head(self, job: JobFact) -> bool:
        """First of what waits in a lane that runs nothing, not held back by anything, and there is a worker for it."""
        is_idle = all(other.lane != job.lane for other in self.in_state(R))
        return job.state == P and job.queue in self.served and is_idle and self.is_free(job)

    def is_hopeless(self, job: JobFact) -> bool:
        """A job that it needs has ended without success."""
        return any(self.jobs[need].state in {F, C} for need in job.needs)

    # -- moves of users

    def cancel(self, keys: Iterable[int]) -> bool:
        """Whether anything was to be done."""
        touched = [job for key in keys if (job := self.jobs[key]).state in UNFINISHED]
        for job in touched:
            if job.state == R:
                job.asked = True
            else:
                job.state = C
        self._settle(touched)
        return bool(touched)

    def retry(self, keys: Iterable[int]) -> bool:
        """Whether anything was to be done."""
        touched = [job for key in keys if (job := self.jobs[key]).state in {F, C}]
        for job in touched:
            job.state, job.attempt, job.asked = P, job.attempt + 1, False
        self._settle(touched)
        return bool(touched)

    def pause(self, flow: int, *, paused: bool) -> bool:
        """Whether the workflow was unfinished."""
        if self.status(flow) in {S, F, C}:
            return False
        self.flows[flow].paused = paused
        self.queue_up(self.flows[flow].user)
        return True

    def _settle(self, touched: Collection[JobFact]) -> None:
        for user in {job.user for job in touched}:
            self.queue_up(user)

    def queue_up(self, user: int) -> None:
        """Who has work and no slot waits, who has none does not; nobody loses a place by it."""
        if not self.has_work(user):
            self.queue = [other for other in self.queue if other != user]
        elif user not in self.slots and user not in self.queue:
            self.queue.append(user)

    # -- moves of the leader

    def end(self, key: int, epoch: int, state: str) -> bool:
        """A claim ends so; False when it is not the job's claim any more, and then nothing changes."""
        job = self.jobs.get(key)
        if job is None or job.state != R or job.epoch != epoch:
            return False
        job.state = C if state == P and job.asked else state
        if job.state == F and self.flows[job.flow].stops:
            for rest in self.jobs_of(job.flow):
                if rest.branch == job.branch and rest.key > key and rest.state == P:
                    rest.state = C
        return True

    def take_over(self, keys: Collection[int], epochs: dict[int, int]) -> None:
        """Claims that the leader did not know get epochs that were never used."""
        for key in keys:
            assert epochs[key] > self.last_epoch, "an epoch was used again"
            self.jobs[key].epoch = epochs[key]

    def move_slots(self, slots: set[int], queue: list[int], *, has_tenure: bool) -> None:
        """Slots are lost for a reason, and given to those who have waited longest."""
        lost = self.slots - slots
        for user in lost:
            is_at_work = any(job.user == user for job in self.in_state(R))
            assert not is_at_work, f"user {user} lost the slot with a job running"
            assert has_tenure or not self.can_run(user), f"user {user} lost the slot for nothing"
            assert (user in queue) == self.has_work(user), f"user {user} lost the slot and the work is forgotten, or there is none"
        given = slots - self.slots
        left = [user for user in self.queue if user not in queue]
        assert given <= set(left), "a slot was given to one who did not wait"
        assert all(user in given or not self.has_work(user) for user in left), "somebody with work fell out of the queue"
        able = [user for user in self.queue if self.can_run(user)]
        assert given == set(able[: len(given)]), "somebody was passed over, or admitted with nothing that can run"
        assert queue == [*(user for user in self.queue if user not in left), *(user for user in queue if user in lost)], (
            "the order has changed"
        )
        self.slots, self.queue = set(slots), list(queue)

    def start(self, started: dict[int, int], cancelled: Collection[int]) -> None:
        """Jobs started (with their epochs) or cancelled because of others in one pass: all of them heads."""
        for key in (*started, *cancelled):
            job = self.jobs[key]
            assert self.is_head(job), f"job {key} was not the next of its lane"
            assert job.user in self.slots, f"job {key} was taken without a slot"
            assert self.is_hopeless(job) == (key in cancelled), f"job {key}: a job that it needs has failed, or not"
        assert not started or min(started.values()) > self.last_epoch, "an epoch was used again"
        assert len(set(started.values())) == len(started)
        for key in cancelled:
            self.jobs[key].state = C
        for key, epoch in started.items():
            self.jobs[key].state, self.jobs[key].epoch = R, epoch
            self.flows[self.jobs[key].flow].started = True

    # -- what always holds

    def check(self) -> None:
        """The rules of lanes, slots and workers."""
        running = self.in_state(R)
        assert len(running) <= self.max_workers
        assert not running or max(Counter(job.lane for job in running).values()) == 1, "two jobs of one lane run"
        assert all(self.jobs[need].state == S for job in running for need in job.needs), "a job runs before one that it needs"
        assert len(self.slots) <= min(self.max_users, self.max_workers)
        for user in {flow.user for flow in self.flows.values()}:
            assert not (user in self.slots and user in self.queue)
            assert not self.has_work(user) or user in self.slots or user in self.queue, f"user {user} is forgotten"

    def check_settled(self, *, has_tenure: bool) -> None:
        """When nothing more is decided, nothing more could have been."""
        at_work = {job.user for job in self.in_state(R)}
        # With a tenure of no time, whoever runs something while others wait is on the way out and starts nothing more.
        able = [user for user in self.queue if self.can_run(user)]
        leaving = at_work if has_tenure and able else set()
        if len(self.in_state(R)) < self.max_workers:
            idle = [job.key for job in self.in_state(P) if job.user in self.slots - leaving and self.is_head(job)]
            assert not idle, f"jobs {idle} could run"
        assert all(self.can_run(user) or user in at_work for user in self.slots), "a slot is held for nothing"
        assert len(self.slots) == min(self.max_users, self.max_workers) or not able, "a slot is free and somebody waits"

"""What runs next: rules of lanes, active users, workers and fair shares as pure functions.

Frozen values in and out; no Django, no clock, no I/O. The loop, the tests and any simulation call the same code.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

DRAINING = "the scheduler is draining"


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """A user who is active."""

    user: int
    since: datetime
    #: Some unfinished job of the user waits for no other, is not paused, and is of an expected queue (`Limits.expected`).
    can_run: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """A user who queues for a slot and has work that can run."""

    user: int
    since: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A job that runs."""

    job: int
    user: int
    lane: str
    #: Orders by claim: the youngest running job has the highest.
    epoch: int = 0
    is_paused: bool = False
    queue: str = "cpu"
    #: It is on its way back to waiting: nothing more of it is sent, its place comes free at the next bundle border.
    is_yielding: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """The first unfinished job of a lane, waiting. `job` orders by submission."""

    job: int
    user: int
    lane: str
    queue: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """The facts that a decision needs. `heads` hold those of active users and of the users first in the queue.

    Who waits and has nothing that can run keeps the place in the queue, is passed over and is not among these facts.
    """

    slots: tuple[Slot, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    running: tuple[Running, ...] = ()
    heads: tuple[Head, ...] = ()
    virtual_times: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What may be used."""

    max_workers: int
    max_active_users: int
    #: Queues that a live worker serves.
    queues: frozenset[str]
    #: Queues for whose work slots are given: `ExpectedQueues`.
    expected: frozenset[str] = frozenset({"cpu"})
    #: How long a user keeps a slot while others wait; 0 = until all jobs have ended.
    slot_max_s: float = 0.0
    #: Nothing is started, and what runs is taken back.
    is_draining: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A job to be started, and why it was its turn."""

    job: int
    user: int
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Preemption:
    """A running job to be taken back at its next bundle border, its finished tiles kept, and why."""

    job: int
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Decisions:
    """What to do now, in this order: give up slots, queue again, admit users, claim jobs, take jobs back."""

    #: Users with a slot of whom nothing runs and nothing can.
    release: tuple[int, ...] = ()
    #: Users whose tenure has ended and of whom nothing runs any more.
    requeue: tuple[int, ...] = ()
    admit: tuple[int, ...] = ()
    claim: tuple[Claim, ...] = ()
    preempt: tuple[Preemption, ...] = ()


def decide(snapshot: Snapshot, limits: Limits, now: datetime) -> Decisions:
    """Decide from facts alone; the same snapshot at the same time always gives the same decisions."""
    if limits.is_draining:
        return Decisions(preempt=_all_back(snapshot))
    at_work = {job.user for job in snapshot.running}
    # A slot follows its last running job: one that was paused, or whose workers are gone, is still on its way back.
    kept = [slot for slot in snapshot.slots if slot.can_run or slot.user in at_work]
    queue = sorted(snapshot.waiting, key=lambda waiting: (waiting.since, waiting.user))
    free = max(0, limits.max_active_users - len(kept))
    overdue = _overdue(kept, len(queue) - free, limits, now)
    requeue = tuple(user for user in overdue if user not in at_work)
    admit = tuple(waiting.user for waiting in queue[: free + len(requeue)])
    active = {slot.user for slot in kept} - set(overdue) | set(admit)
    ready = _ready_by_user(snapshot, limits, active)
    claims = _claims(snapshot, limits, ready)
    return Decisions(
        release=tuple(slot.user for slot in snapshot.slots if slot not in kept),
        requeue=requeue,
        admit=admit,
        claim=claims,
        preempt=(*_withdrawals(snapshot, limits, overdue), *_preemptions(snapshot, limits, set(ready), claims)),
    )


def _all_back(snapshot: Snapshot) -> tuple[Preemption, ...]:
    """Everybody keeps slot and place in the queue: after the pause it goes on as if nothing had been."""
    return tuple(Preemption(job=job.job, reason=DRAINING) for job in snapshot.running if not job.is_yielding)


def _overdue(kept: list[Slot], needed: int, limits: Limits, now: datetime) -> tuple[int, ...]:
    """Users who must give up their slot: tenure over, longest held first, no more than users wait for a slot in vain."""
    if limits.slot_max_s <= 0 or needed <= 0:
        return ()
    over = [slot for slot in kept if (now - slot.since).total_seconds() >= limits.slot_max_s]
    return tuple(slot.user for slot in sorted(over, key=lambda slot: (slot.since, slot.user))[:needed])


def _withdrawals(snapshot: Snapshot, limits: Limits, overdue: tuple[int, ...]) -> tuple[Preemption, ...]:
    """Running jobs that lose their right to run, the paused ones first."""
    staying = [job for job in snapshot.running if not job.is_yielding]
    lost = [Preemption(job=job.job, reason=reason) for job in staying if (reason := _right_lost(job, limits, overdue))]
    paused = {job.job for job in staying if job.is_paused}
    return tuple(sorted(lost, key=lambda preemption: preemption.job not in paused))


def _right_lost(job: Running, limits: Limits, overdue: tuple[int, ...]) -> str:
    """Why a running job must wait again: its workflow is paused, its user's tenure is over, its kind of worker is gone; "" when it goes on."""
    if job.is_paused:
        return "its workflow is paused"
    if job.user in overdue:
        return "its user's time with a slot is over while others wait"
    return f"no {job.queue} worker is left" if _is_unserved(job, limits) else ""


def _is_unserved(job: Running, limits: Limits) -> bool:
    """Workers of the cpu are on their way back as long as they are expected; and where none at all is seen, nobody can say which are gone."""
    is_gone = bool(limits.queues) and job.queue not in limits.queues
    return is_gone and (job.queue != "cpu" or job.queue not in limits.expected)


def _preemptions(snapshot: Snapshot, limits: Limits, ready: set[int], claims: tuple[Claim, ...]) -> tuple[Preemption, ...]:
    """A place for each active user with runnable work and no running job, from the user with the most running jobs.

    That user has at least two, so the two cannot take the place from each other in turn.
    """
    if len(snapshot.running) + len(claims) < limits.max_workers:
        return ()
    staying = [job for job in snapshot.running if not (job.is_yielding or job.is_paused or _is_unserved(job, limits))]
    at_work = {job.user for job in staying} | {claim.user for claim in claims}
    needed = len(ready - at_work) - (len(snapshot.running) - len(staying))
    preempted: list[Preemption] = []
    while len(preempted) < needed:
        counts = Counter(job.user for job in staying)
        user, most = min(counts.items(), key=lambda item: (-item[1], -snapshot.virtual_times.get(item[0], 0.0), item[0]), default=(0, 0))
        if most < 2:
            break
        youngest = max((job for job in staying if job.user == user), key=lambda job: (job.epoch, job.job))
        staying.remove(youngest)
        preempted.append(Preemption(job=youngest.job, reason=f"its user had {most} jobs running and another active user none"))
    return tuple(preempted)


def _claims(snapshot: Snapshot, limits: Limits, ready: dict[int, list[Head]]) -> tuple[Claim, ...]:
    """Takes the claimed heads out of `ready`."""
    running = Counter(job.user for job in snapshot.running if not job.is_yielding)
    claims: list[Claim] = []
    for _ in range(limits.max_workers - len(snapshot.running)):
        if not ready:
            break
        user = min(ready, key=lambda u: (running[u], snapshot.virtual_times.get(u, 0.0), u))
        head = ready[user].pop()
        claims.append(Claim(job=head.job, user=user, reason=f"head of its branch; its user had {running[user]} jobs running"))
        running[user] += 1
        if not ready[user]:
            del ready[user]
    return tuple(claims)


def _ready_by_user(snapshot: Snapshot, limits: Limits, active: set[int]) -> dict[int, list[Head]]:
    """Heads that may start, by user, the oldest last (so that pop takes it). Filters come before limits."""
    busy = {job.lane for job in snapshot.running}
    ready: dict[int, list[Head]] = {}
    for head in sorted(snapshot.heads, key=lambda head: -head.job):
        if head.user in active and head.lane not in busy and head.queue in limits.queues:
            ready.setdefault(head.user, []).append(head)
    return ready


@dataclass(frozen=True, kw_only=True, slots=True)
class Situation:
    """What a waiting job's reason is computed from."""

    is_scheduler_alive: bool
    is_paused: bool
    is_draining: bool = False
    #: The unfinished job before it in its lane, as (job_id, branch).
    behind: tuple[str, str] | None
    #: The first unfinished job that it depends on.
    needs: str | None = None
    #: (position, number of waiting users) of its user; None when the user is active.
    user_position: tuple[int, int] | None
    queue: str
    queues_served: frozenset[str]
    #: What it waits for before it is tried again, and for how many seconds.
    retry: tuple[str, float] | None = None


def waiting_reason(situation: Situation) -> str:
    """Why a PENDING job does not run."""
    if not situation.is_scheduler_alive:
        return "scheduler is not running"
    if situation.is_draining:
        return DRAINING
    if situation.is_paused:
        return "paused"
    if situation.behind is not None:
        job_id, branch = situation.behind
        return f"behind job {job_id} in branch {branch}"
    if situation.needs is not None:
        return f"waiting for job {situation.needs}"
    if situation.retry is not None:
        words, seconds = situation.retry
        return f"{words} in {math.ceil(seconds)} s"
    if situation.user_position is not None:
        position, waiting = situation.user_position
        return f"waiting for a user slot, position {position} of {waiting}"
    if situation.queue not in situation.queues_served and situation.queue != "cpu":
        return f"waiting for a {situation.queue} worker"
    return "waiting for a worker"


class ExpectedQueues:
    """The queues for whose work slots are given: a worker serves them, or did so no more than `patience_s` ago.

    A worker that is started again is away for seconds; a user should not lose a slot by that. Only an absence that is seen
    counts: it begins when somebody looks, and where no worker at all is seen, nobody can say which are gone.
    """

    def __init__(self, queues: Iterable[str], now: float, patience_s: float) -> None:
        self._seen_at = dict.fromkeys(queues, now)
        self._patience_s = patience_s

    @property
    def queues(self) -> frozenset[str]:
        """Their names."""
        return frozenset(self._seen_at)

    def look(self, served: Iterable[str], now: float) -> None:
        """Take in the queues that live workers serve now; none when no worker, or Redis, is to be seen."""
        self._seen_at |= dict.fromkeys(list(served) or self._seen_at, now)
        self._seen_at = {queue: at for queue, at in self._seen_at.items() if now - at <= self._patience_s}


class FairClock:
    """Virtual time by user: worker-seconds ÷ weight. The next bundle goes to the least.

    A bundle is charged as a guess when it is sent and corrected when it ends; one that is lost stays charged its guess.
    Who comes back from having had nothing to send starts at max(own, minimum): no credit for idling, no debt forgiven.
    (Fair queuing with unknown service time, as in the Kubernetes API server.)
    """

    def __init__(self, times: Mapping[int, float] | None = None) -> None:
        self._times: dict[int, float] = dict(times or {})
        self._weights: dict[int, float] = {}
        self._contending: frozenset[int] = frozenset()
        #: The least virtual time of contending users so far; never goes back.
        self._floor = 0.0

    @property
    def times(self) -> dict[int, float]:
        """Virtual seconds by user."""
        return dict(self._times)

    def set_weight(self, user: int, weight: float) -> None:
        """A user of weight 2 gets twice the worker-seconds of one of weight 1."""
        self._weights[user] = weight

    def contend(self, users: Iterable[int]) -> None:
        """Say who has something to send now; newcomers are lifted to the least time of those who were sending."""
        now = frozenset(users)
        self._floor = max(self._floor, min((self._times.get(user, 0.0) for user in now & self._contending), default=self._floor))
        for user in now - self._contending:
            self._times[user] = max(self._times.get(user, 0.0), self._floor)
        self._contending = now

    def next_of(self, users: Iterable[int]) -> int:
        """The user with the least virtual time (tie: the lower key). Raises ValueError when there is none."""
        return min(users, key=lambda user: (self._times.get(user, 0.0), user))

    def charge(self, user: int, seconds: float) -> None:
        """Add worker-seconds (negative: correct a guess)."""
        self._times[user] = self._times.get(user, 0.0) + seconds / self._weights.get(user, 1.0)

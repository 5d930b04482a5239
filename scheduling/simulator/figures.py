"""What a run is measured by. Each figure's formula stands with it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from scheduling.engine.ledger import Ledger
from scheduling.simulator.books import Books
from scheduling.simulator.machine import Machine
from scheduling.simulator.scenario import Scenario
from scheduling.states import JobState


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Seconds from the submission of a user's jobs' workflow to a job's first tile."""

    user: int
    p50_s: float
    p95_s: float


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of one run; times in virtual seconds."""

    scenario: str
    seed: int = 0
    jobs: int
    tiles: int
    failed_jobs: int
    makespan_s: float
    #: Makespan ÷ `least_makespan_s`.
    makespan_ratio: float
    tiles_per_s: float
    #: Worker-seconds used ÷ (processes × makespan), of the cpu.
    utilisation: float
    #: Of each user's worker-seconds ÷ ideal ones: (Σx)² ÷ (n Σx²), over the time in which the user could have used more.
    jain: float
    #: The largest amount by which a user fell behind the ideal share, in seconds of one worker.
    worst_lag_s: float
    taken_back: int
    waits: tuple[Wait, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def jain(values: Sequence[float]) -> float:
    """Jain's index: 1 when all are equal, 1 ÷ n when one has everything; 1 for none."""
    total, squares = sum(values), sum(value * value for value in values)
    return total * total / (len(values) * squares) if squares else 1.0


def quantile(values: Iterable[float], share: float) -> float:
    """The value below which this share of them lies (nearest rank). Raises IndexError for none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def least_makespan_s(scenario: Scenario) -> float:
    """No schedule ends before: for every arrival a, a + (work of the cpu that arrives at a or later) ÷ processes; the greatest of these."""
    left, least = 0.0, 0.0
    for submission in sorted(scenario.submissions, key=lambda submission: -submission.at_s):
        left += sum(job.tiles * job.seconds_per_tile for job in submission.jobs if job.queue == "cpu")
        least = max(least, submission.at_s + left / scenario.processes)
    return least


@dataclass
class Meter:
    """Compares what each user gets of the cpu with a fluid that gives every user with work to send the same share by weight.

    ideal(u) grows by dt × processes × w(u) ÷ Σw over the users that had tiles to send at both ends of dt; while a user had
    none, what it gets does not count either. A user's lag is ideal − got since it last began to have tiles to send.
    """

    scenario: Scenario
    shares: dict[tuple[int, str], float] = field(default_factory=dict)
    taken_back: int = 0
    worst_lag_s: float = 0.0
    _at: float = 0.0
    _sending: frozenset[int] = frozenset()
    _used: dict[int, float] = field(default_factory=dict)
    _ideal: dict[int, float] = field(default_factory=dict)
    _got: dict[int, float] = field(default_factory=dict)
    _lag: dict[int, float] = field(default_factory=dict)

    def look(self, now: float, books: Books, machine: Machine, ledger: Ledger | None) -> None:
        """Take in the time since the last look; `machine` is that of the cpu."""
        used = {user: machine.used_by(user, now) for user in self.scenario.users}
        planned = [] if ledger is None else ledger.planned()
        sending = frozenset(entry.claimed.user for entry in planned if entry.todo > 0 and entry.claimed.queue == "cpu")
        both = sending & self._sending
        weights = sum(self.scenario.weight(user) for user in both)
        # What others use meanwhile, the last tiles of a job say, is not there to be shared.
        shared = sum(used[user] - self._used.get(user, 0.0) for user in both)
        for user in both:
            ideal, got = shared * self.scenario.weight(user) / weights, used[user] - self._used.get(user, 0.0)
            self._ideal[user] = self._ideal.get(user, 0.0) + ideal
            self._got[user] = self._got.get(user, 0.0) + got
            self._lag[user] = self._lag.get(user, 0.0) + ideal - got
            self.worst_lag_s = max(self.worst_lag_s, self._lag[user])
        for user in set(self._lag) - both:
            del self._lag[user]
        self._at, self._sending, self._used = now, sending, used

    def figures(self, books: Books, now: float) -> Figures:
        """At the end of the run."""
        jobs = list(books.jobs.values())
        makespan_s = max((job.ended_s or now for job in jobs), default=0.0)
        tiles = sum(job.done.count(1) for job in jobs)
        waits = {
            user: [job.begun_s - job.submitted_s for job in jobs if job.user == user and job.begun_s is not None]
            for user in self.scenario.users
        }
        work_s = sum(self._used.values())
        return Figures(
            scenario=self.scenario.name,
            jobs=len(jobs),
            tiles=tiles,
            failed_jobs=sum(job.state != JobState.SUCCEEDED for job in jobs),
            makespan_s=round(makespan_s, 3),
            makespan_ratio=round(makespan_s / least_makespan_s(self.scenario), 4),
            tiles_per_s=round(tiles / makespan_s, 2),
            utilisation=round(work_s / (self.scenario.processes * makespan_s), 4),
            jain=round(jain([self._got[user] / ideal for user, ideal in self._ideal.items() if ideal > 0]), 5),
            worst_lag_s=round(self.worst_lag_s, 3),
            taken_back=self.taken_back,
            waits=tuple(Wait(user=u, p50_s=round(quantile(w, 0.5), 3), p95_s=round(quantile(w, 0.95), 3)) for u, w in waits.items() if w),
        )

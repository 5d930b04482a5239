"""What a simulation is told: the machine, its failures, and who submits which work when."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class JobPlan:
    """A job to be submitted."""

    branch: str
    tiles: int
    seconds_per_tile: float
    queue: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A workflow that a user (from 1) submits at a time, in virtual seconds."""

    at_s: float
    user: int
    jobs: tuple[JobPlan, ...]


@dataclass(frozen=True, kw_only=True)
class Failures:
    """How often things break; 0 = never."""

    #: Mean seconds between the deaths of one worker (a share of the processes), and how long it stays away.
    worker_every_s: float = 0.0
    worker_away_s: float = 20.0
    #: Processes that die together.
    processes: int = 1
    #: Mean seconds between crashes of the leader, and how long nobody leads.
    leader_every_s: float = 0.0
    leader_away_s: float = 7.0


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One experiment. A tile's time varies by `spread` (0.2 = ±20 %, evenly)."""

    name: str
    submissions: tuple[Submission, ...]
    #: Jobs RUNNING at once, and the processes that compute their tiles.
    max_workers: int = 4
    processes: int = 4
    max_users: int = 3
    slot_max_s: float = 0.0
    spread: float = 0.2
    weights: tuple[tuple[int, float], ...] = ()
    failures: Failures = Failures()
    #: When a worker of the queue gpu is there, of one process: (from, until) in virtual seconds.
    gpu_s: tuple[tuple[float, float], ...] = ()

    @property
    def users(self) -> tuple[int, ...]:
        """All who submit."""
        return tuple(sorted({submission.user for submission in self.submissions}))

    @property
    def tiles(self) -> int:
        """Tiles of all jobs."""
        return sum(job.tiles for submission in self.submissions for job in submission.jobs)

    def weight(self, user: int) -> float:
        """The user's share against the others; 1 unless stated."""
        return dict(self.weights).get(user, 1.0)

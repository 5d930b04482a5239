"""What the overview shows: a row for each workflow, and how its reader stands in the queue. Pure; no queries, no HTML."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dashboard import wording
from dashboard.presenters import Body, ShownWorkflow, starts_in
from scheduling.states import RETRYABLE, UNFINISHED

#: A row that scripts clone; no value of it is ever seen.
BLANK: Body = {
    "workflow_id": "00000000-0000-0000-0000-000000000000",
    "user_id": "",
    "status": "ACCEPTED",
    "paused": False,
    "job_counts": {"PENDING": 0, "RUNNING": 0, "SUCCEEDED": 0, "FAILED": 0, "CANCELLED": 0},
    "name": "",
    "number": 0,
    "progress": 0.0,
    "branches": 0,
    "tiles_processed": 0,
    "tiles_total": 0,
    "queue_position": None,
    "created_at": "2026-01-01T00:00:00.000000Z",
    "started_at": None,
    "finished_at": None,
}


@dataclass(frozen=True, kw_only=True)
class WorkflowRow(ShownWorkflow):
    """One workflow of the overview. `body` is an entry of GET /workflow."""

    now: datetime
    #: Whether the reader sees other users' workflows too.
    names_owner: bool = False

    @property
    def title(self) -> str:
        """The name, or what stands for it."""
        return self.body["name"] or f"Workflow #{self.body['number']}"

    @property
    def jobs(self) -> int:
        """How many jobs it has."""
        return sum(self.body["job_counts"].values())

    @property
    def unfinished(self) -> int:
        """Jobs that a cancel would end."""
        return sum(self.body["job_counts"][state] for state in UNFINISHED)

    @property
    def has_retryable(self) -> bool:
        """Whether a job may be retried."""
        return any(self.body["job_counts"][state] for state in RETRYABLE)

    @property
    def meta(self) -> str:
        """`#12 · 9 jobs in 2 branches · user queued, position 1`"""
        parts = [f"#{self.body['number']}" + (f" by {self.body['user_id']}" if self.names_owner else "")]
        parts.append(f"{wording.plural(self.jobs, 'job')} in {wording.plural(self.body['branches'], 'branch')}")
        if self.body["queue_position"] is not None and not self.is_finished:
            parts.append(f"user queued, position {self.body['queue_position']}")
        return " · ".join(parts)

    @property
    def tiles(self) -> str:
        """Tiles finished."""
        return wording.count(self.body["tiles_processed"])

    @property
    def total(self) -> str:
        """Tiles known of; a dash before any job is planned."""
        return wording.count(self.body["tiles_total"] or None)

    @property
    def run_time(self) -> str:
        """How long it has run or ran; `waiting` before the first job."""
        seconds = wording.seconds_between(self.body["started_at"], self.body["finished_at"], self.now)
        if seconds is None:
            return "not started" if self.is_finished else "waiting"
        return wording.duration(seconds)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How the reader stands in the queue. `queue` is the body of GET /queue."""

    queue: Body
    user_id: str
    now: datetime

    @property
    def slots(self) -> list[str]:
        """`mine`, `taken` or `free`, one for each slot."""
        taken = ["mine" if slot["user_id"] == self.user_id else "taken" for slot in self.queue["active"]]
        return taken + ["free"] * (self.queue["max_concurrent_users"] - len(taken))

    @property
    def headline(self) -> str:
        """The first words."""
        if self._find("active"):
            return "You are active"
        place = self._find("waiting")
        return f"You are number {place['position']} in the queue" if place else "You have no work"

    @property
    def detail(self) -> str:
        """What follows them."""
        if active := self._find("active"):
            since = wording.seconds_between(active["since"], None, self.now) or 0
            return f"since {wording.duration(since)} · {wording.plural(active['running'], 'job')} running, {active['waiting']:,} waiting"
        if place := self._find("waiting"):
            users, jobs = wording.plural(len(self.queue["waiting"]), "waiting user"), wording.plural(place["jobs"], "job")
            return f"of {users} · {jobs}{starts_in(place['estimated_start'], self.now)}"
        return f"{len(self.queue['active'])} of {wording.plural(self.queue['max_concurrent_users'], 'slot')} taken"

    @property
    def waiting_users(self) -> str:
        """How many wait for a slot."""
        return f"{wording.plural(len(self.queue['waiting']), 'user')} waiting"

    def _find(self, key: str) -> Body | None:
        return next((entry for entry in self.queue[key] if entry["user_id"] == self.user_id), None)

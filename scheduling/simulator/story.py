"""The event log of a simulated run, as the product would have written it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from scheduling.audit.log_event import LogEvent
from scheduling.engine.policy import Limits
from scheduling.simulator.books import SimJob, at

Write = Callable[[LogEvent], None]
LEADER = "scheduler"


class Story:
    """Hands each event to `write`; counts ids and terms."""

    def __init__(self, write: Write | None) -> None:
        self._write = write
        self._id = 0
        self.term = 0

    def tell(self, now: float, kind: str, *, actor: str = LEADER, **fields: Any) -> None:
        """One event; the leader's carry its term."""
        if self._write is not None:
            self._id += 1
            self._write(LogEvent(id=self._id, at=at(now), type=kind, actor=actor, term=self.term if actor == LEADER else 0, **fields))

    def elect(self, now: float, limits: Limits) -> None:
        """A leader begins its term."""
        self.term += 1
        told = {"max_workers": limits.max_workers, "max_active_users": limits.max_active_users, "slot_max_s": limits.slot_max_s}
        queues = sorted(limits.expected)
        self.tell(now, "leader.elected", data={"holder": f"simulated/{self.term}", **told, "queues": queues})

    def expect(self, now: float, queues: frozenset[str]) -> None:
        """From now on slots are given for the work of these queues."""
        self.tell(now, "leader.queues", data={"queues": sorted(queues)})

    def about_user(self, now: float, kind: str, user: int, reason: str, *, actor: str = LEADER, **times: float) -> None:
        """A user's place in the queue or slot; `times` are virtual seconds."""
        if self._write is not None:
            self.tell(now, kind, actor=actor, user=user, reason=reason, data={name: at(when).isoformat() for name, when in times.items()})

    def about_job(self, now: float, kind: str, job: SimJob, *, actor: str = LEADER, reason: str = "", **data: Any) -> None:
        """A job's transition, with its claim's epoch when the leader makes it."""
        if self._write is not None:
            common = {"job_id": f"j{job.key}", "branch": job.plan.branch, "job_type": "SIMULATED", "attempt": 1, "lane": job.lane}
            fields = {
                "user": job.user,
                "workflow": str(UUID(int=job.workflow)),
                "job": job.uuid,
                "epoch": job.epoch if actor == LEADER else 0,
            }
            self.tell(now, kind, actor=actor, reason=reason, data={**common, **data}, **fields)

    def about_workflow(self, now: float, kind: str, user: int, workflow: int, *, actor: str = LEADER, **data: Any) -> None:
        """A workflow's transition."""
        if self._write is not None:
            self.tell(now, kind, actor=actor, user=user, workflow=str(UUID(int=workflow)), data=data)

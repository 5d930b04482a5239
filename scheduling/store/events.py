"""The event log: one row for each transition, in the transaction that makes it. Types and data: docs/states.md."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import cache
from typing import Any, Protocol
from uuid import UUID

from scheduling.models import Event
from scheduling.states import JobState
from scheduling.store import sets

SCHEDULER = "scheduler"
OPERATOR = "operator"


class AJob(Protocol):
    """What an event about a job is made of: a job's row, or as much of it as was read."""

    uuid: UUID
    owner_id: int
    job_id: str
    branch: str
    job_type: str
    lane: str
    attempt: int


class ATiledJob(AJob, Protocol):
    """What is told of one that has ended as well."""

    tiles_total: int | None
    cached: bool


class AWorkflow(Protocol):
    """What an event about a workflow is made of."""

    @property
    def uuid(self) -> UUID: ...
    @property
    def owner_id(self) -> int: ...


def record(events: Iterable[Event]) -> None:
    """Write unsaved events in the order given, in one statement. The caller holds the lock of the user's row, so that ids follow commits."""
    told = [(e.type, e.user_id, e.workflow_uuid, e.job_uuid, e.term, e.epoch, e.actor, e.reason, e.data) for e in events]
    if told:
        sets.change(_record_sql(), *sets.rows(told))


@cache
def _record_sql() -> str:
    columns = {"type": "text", "user_id": "key", "workflow_uuid": "uuid", "job_uuid": "uuid", "term": "key", "epoch": "key"}
    columns |= {"actor": "text", "reason": "text", "data": "json"}
    names = ", ".join(columns)
    return f"INSERT INTO scheduling_event ({names}) SELECT {names} FROM ({sets.table(**columns)}) AS told"  # noqa: S608  (texts of ours)


def job_event(kind: str, job: AJob, workflow: UUID, *, actor: str, reason: str = "", term: int = 0, epoch: int = 0, **data: Any) -> Event:
    """An unsaved event about a job; its name and type travel along so that it can be read without the job."""
    data = {"job_id": job.job_id, "branch": job.branch, "job_type": job.job_type, "attempt": job.attempt, "lane": job.lane, **data}
    return Event(
        type=kind,
        user_id=job.owner_id,
        workflow_uuid=workflow,
        job_uuid=job.uuid,
        actor=actor,
        reason=reason,
        term=term,
        epoch=epoch,
        data=data,
    )


def finished_event(
    job: ATiledJob,
    workflow: UUID,
    state: JobState,
    *,
    tiles: int,
    index_sha256: str = "",
    actor: str,
    reason: str,
    term: int = 0,
    epoch: int = 0,
) -> Event:
    """An unsaved `job.finished`: how many tiles it has, and the digest of the set of their indices."""
    told = {
        "state": JobState(state).value,
        "tiles": tiles,
        "tiles_total": job.tiles_total,
        "index_sha256": index_sha256,
        "cached": job.cached,
    }
    return job_event("job.finished", job, workflow, actor=actor, reason=reason, term=term, epoch=epoch, **told)


def workflow_event(kind: str, workflow: AWorkflow, *, actor: str, reason: str = "", term: int = 0, **data: Any) -> Event:
    """An unsaved event about a workflow."""
    return Event(type=kind, user_id=workflow.owner_id, workflow_uuid=workflow.uuid, actor=actor, reason=reason, term=term, data=data)


def user_event(kind: str, user_key: int, *, actor: str = SCHEDULER, reason: str = "", term: int = 0, **data: Any) -> Event:
    """An unsaved event about a user's slot or place in the queue; times as ISO 8601."""
    told = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in data.items()}
    return Event(type=kind, user_id=user_key, actor=actor, reason=reason, term=term, data=told)


def leader_event(kind: str, term: int, **data: Any) -> Event:
    """An unsaved event about the leadership."""
    return Event(type=kind, actor=SCHEDULER, term=term, data=data)


def operator_event(kind: str, **data: Any) -> Event:
    """An unsaved event about what the operator told the scheduler."""
    return Event(type=kind, actor=OPERATOR, data=data)

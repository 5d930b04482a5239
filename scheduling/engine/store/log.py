"""The event log: one row for each transition, in the transaction that makes it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from scheduling.models import Event, Job, Workflow

SCHEDULER = "scheduler"


def job_event(kind: str, job: Job, workflow: UUID, *, actor: str, reason: str = "", term: int = 0, epoch: int = 0, **data: Any) -> Event:
    """An unsaved event about a job; its name and type travel along so that it can be read without the job."""
    data = {"job_id": job.job_id, "branch": job.branch, "job_type": job.job_type, "attempt": job.attempt, **data}
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


def workflow_event(kind: str, workflow: Workflow, *, actor: str, reason: str = "", term: int = 0, **data: Any) -> Event:
    """An unsaved event about a workflow."""
    return Event(type=kind, user_id=workflow.owner_id, workflow_uuid=workflow.uuid, actor=actor, reason=reason, term=term, data=data)


def user_event(kind: str, user_key: int, *, reason: str = "", term: int = 0, **data: Any) -> Event:
    """An unsaved event about a user's slot."""
    return Event(type=kind, user_id=user_key, actor=SCHEDULER, reason=reason, term=term, data=data)

"""The status of a workflow follows from its jobs; this brings it in line after any of them changed."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Count

from scheduling import events
from scheduling.engine.store.log import SCHEDULER, record, workflow_event
from scheduling.models import Job, Workflow
from scheduling.states import FINISHED_WORKFLOW, JobState, WorkflowStatus, workflow_status


def refresh_workflow(workflow: Workflow, now: datetime, *, actor: str = SCHEDULER, term: int = 0) -> None:
    """Derive status, started_at and finished_at from the jobs, save and log what changed, tell the browser.

    The caller holds the owner's row lock, or is the leader inside its transaction.
    """
    rows = Job.objects.filter(workflow=workflow).values_list("state").annotate(n=Count("id")).order_by()
    counts = {JobState(state): n for state, n in rows}
    started = workflow.started_at or (now if counts.get(JobState.RUNNING) else None)
    status = workflow_status(counts, has_started=started is not None)
    is_finished = status in FINISHED_WORKFLOW
    if status != workflow.status:
        was_finished = workflow.status in FINISHED_WORKFLOW
        kind = "workflow.finished" if is_finished else "workflow.reopened" if was_finished else "workflow.started"
        record([workflow_event(kind, workflow, actor=actor, term=term, status=status.value)])
    workflow.started_at = started
    workflow.finished_at = (workflow.finished_at or now) if is_finished else None
    workflow.status = WorkflowStatus(status)
    workflow.save(update_fields=["status", "started_at", "finished_at"])
    events.workflow_changed(workflow.owner_id, workflow.uuid)

"""The status of a workflow follows from its jobs; this brings it in line after any of them changed."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Count

from scheduling import events
from scheduling.engine.store.log import SCHEDULER, workflow_event
from scheduling.models import Event, Job, Workflow
from scheduling.states import FINISHED_WORKFLOW, JobState, WorkflowStatus, workflow_status


def refresh_workflow(workflow: Workflow, now: datetime, *, actor: str = SCHEDULER, term: int = 0) -> None:
    """Derive status, started_at and finished_at from the jobs, save what changed, log a finish, tell the browser.

    The caller holds the owner's row lock, or is the leader inside its transaction.
    """
    rows = Job.objects.filter(workflow=workflow).values_list("state").annotate(n=Count("id")).order_by()
    counts = {JobState(state): n for state, n in rows}
    started = workflow.started_at or (now if counts.get(JobState.RUNNING) else None)
    status = workflow_status(counts, has_started=started is not None)
    is_finished = status in FINISHED_WORKFLOW
    if is_finished and workflow.status not in FINISHED_WORKFLOW:
        Event.objects.bulk_create([workflow_event("workflow.finished", workflow, actor=actor, term=term, status=status.value)])
    workflow.started_at = started
    workflow.finished_at = (workflow.finished_at or now) if is_finished else None
    workflow.status = WorkflowStatus(status)
    workflow.save(update_fields=["status", "started_at", "finished_at"])
    events.workflow_changed(workflow.owner_id, workflow.uuid)

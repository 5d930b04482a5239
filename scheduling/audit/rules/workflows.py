"""Rules of workflows: the status follows from the jobs, and no job is missing."""

from __future__ import annotations

from scheduling.audit.facts import Facts, Job, Workflow
from scheduling.audit.judging import job_rules, workflow_rules
from scheduling.audit.log_event import LogEvent
from scheduling.states import FINISHED_WORKFLOW, WorkflowStatus, workflow_status


@workflow_rules.on("workflow.started", "workflow.finished", "workflow.reopened", "workflow.paused", "workflow.resumed", "workflow.deleted")
def workflow_moves(facts: Facts, event: LogEvent, workflow: Workflow) -> str | None:
    """A workflow starts once, finishes when it has not, and is reopened or deleted when it has; pause and resume take turns."""
    if not workflow.size:
        return None
    is_finished = workflow.status in FINISHED_WORKFLOW
    allowed = {
        "workflow.started": workflow.status is WorkflowStatus.ACCEPTED and workflow.has_started,
        "workflow.finished": not is_finished,
        "workflow.reopened": is_finished,
        "workflow.paused": not is_finished and not workflow.is_paused,
        "workflow.resumed": not is_finished and workflow.is_paused,
        "workflow.deleted": is_finished,
    }
    if allowed[event.type]:
        return None
    return f"it is {workflow.status}{', paused' if workflow.is_paused else ''}{'' if workflow.has_started else ', no job has started'}"


@workflow_rules.on("workflow.started", "workflow.finished", "workflow.reopened")
def status_of_jobs(facts: Facts, event: LogEvent, workflow: Workflow) -> str | None:
    """The status is the one that the states of the jobs give."""
    if not workflow.is_whole:
        return None
    expected = workflow_status(workflow.counts(), has_started=workflow.has_started)
    return f"status {expected} was expected, not {event.data['status']}" if event.data["status"] != expected else None


@workflow_rules.on("workflow.finished", "workflow.started", "workflow.deleted")
def every_job_is_there(facts: Facts, event: LogEvent, workflow: Workflow) -> str | None:
    """Every job that the workflow was submitted with has been told of."""
    return None if workflow.size is None or workflow.is_whole else f"{workflow.size} jobs were expected, not {len(workflow.jobs)}"


@job_rules.on("job.started", "job.taken_over", "job.taken_back", "job.finished")
def workflow_keeps_up(facts: Facts, event: LogEvent, job: Job) -> str | None:
    """No job of a finished workflow moves, and with the first start the workflow is RUNNING."""
    workflow = job.workflow
    if workflow.size is None:
        return None
    if workflow.status in FINISHED_WORKFLOW:
        return f"its workflow is {workflow.status} and was expected to be reopened"
    is_late = workflow.has_started and workflow.status is WorkflowStatus.ACCEPTED
    return "its workflow was expected to be RUNNING since a job has started" if is_late else None

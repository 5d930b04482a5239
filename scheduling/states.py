"""The words for states, and the one table of allowed transitions. Imports nothing of ours; everybody asks it."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """States of a job."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class WorkflowStatus(StrEnum):
    """Statuses of a workflow, derived from its jobs by `workflow_status`."""

    ACCEPTED = "ACCEPTED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class BranchScope(StrEnum):
    """Whether a branch belongs to its workflow or is shared by all workflows of its user."""

    WORKFLOW = "workflow"
    USER = "user"


class OnFailure(StrEnum):
    """What a FAILED job does to the rest of its branch."""

    CONTINUE = "continue"
    STOP = "stop"


UNFINISHED = frozenset({JobState.PENDING, JobState.RUNNING})
FINISHED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
RETRYABLE = frozenset({JobState.FAILED, JobState.CANCELLED})
FINISHED_WORKFLOW = frozenset({WorkflowStatus.SUCCEEDED, WorkflowStatus.FAILED, WorkflowStatus.CANCELLED})

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.PENDING: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.PENDING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset({JobState.PENDING}),
    JobState.CANCELLED: frozenset({JobState.PENDING}),
}


def is_allowed(source: JobState, target: JobState) -> bool:
    """Whether a job may go from `source` to `target`; every guarded UPDATE asks."""
    return target in TRANSITIONS[source]


def workflow_status(counts: dict[JobState, int], *, has_started: bool) -> WorkflowStatus:
    """Derive a workflow's status from the number of its jobs in each state.

    ACCEPTED until a job has started, RUNNING until all have ended, then FAILED before CANCELLED before SUCCEEDED.
    """
    if any(counts.get(state) for state in UNFINISHED):
        return WorkflowStatus.RUNNING if has_started else WorkflowStatus.ACCEPTED
    if counts.get(JobState.FAILED):
        return WorkflowStatus.FAILED
    if counts.get(JobState.CANCELLED):
        return WorkflowStatus.CANCELLED
    return WorkflowStatus.SUCCEEDED


def cpu_alone() -> list[str]:
    """The queues for whose work slots are given until a worker of another one was seen."""
    return ["cpu"]

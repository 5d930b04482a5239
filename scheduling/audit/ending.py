"""Rules of the end of the log: nothing is lost, nobody is forgotten, no slot is kept for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from scheduling.audit.facts import Facts, Job, User, Workflow
from scheduling.audit.judging import Violation
from scheduling.states import FINISHED_WORKFLOW, UNFINISHED

#: A leader that has written something so long after the last event about a user has looked at the slots since.
LATE = timedelta(seconds=5)


def unfinished_jobs(facts: Facts) -> Iterator[Job]:
    """Jobs that wait or run when the log ends."""
    for workflow in _workflows(facts):
        if workflow.unfinished:
            yield from (job for job in workflow.jobs.values() if job.state in UNFINISHED)


def judge_end(facts: Facts, *, led_at: datetime | None, must_be_finished: bool) -> Iterator[Violation]:
    """The rules of the end; `led_at` is when a leader last wrote."""
    if must_be_finished:
        yield from all_finished(facts)
    for user in facts.users.values():
        if not (facts.leader.is_draining or facts.is_partial):
            yield from slot_given_up(facts, user, led_at, must_be_finished=must_be_finished)
        yield from nobody_forgotten(user, is_partial=facts.is_partial)
    for workflow in _workflows(facts):
        yield from status_told(workflow)


def all_finished(facts: Facts) -> Iterator[Violation]:
    """Every job that was submitted has ended."""
    for job in unfinished_jobs(facts):
        message = f"job {job.name} (attempt {job.attempt}) is {job.state} and was expected to have ended"
        yield _at_end("all-finished", message, user=job.user, workflow=job.workflow, job=job)


def slot_given_up(facts: Facts, user: User, led_at: datetime | None, *, must_be_finished: bool) -> Iterator[Violation]:
    """A slot is not kept for nothing: when no work can run, the leader's next look takes it (except while draining)."""
    if not user.has_slot or user.running or facts.can_run(user):
        return
    changes = [at for at in (user.told_at, facts.leader.queues_at, facts.leader.drained_at) if at is not None]
    if must_be_finished or (led_at is not None and led_at > max(changes) + LATE):
        yield _at_end("slot-given-up", f"the user keeps a slot and has had nothing to do since {max(changes).isoformat()}", user=user)


def nobody_forgotten(user: User, *, is_partial: bool) -> Iterator[Violation]:
    """Who has work has a slot or waits for one; who has none does not wait."""
    if not user.is_known:
        return
    if user.open and not user.has_slot and user.waiting_since is None:
        yield _at_end("nobody-forgotten", f"the user has {user.open} jobs to do and neither a slot nor a place in the queue", user=user)
    if user.waiting_since is not None and not (user.open or user.has_slot or is_partial):
        yield _at_end("nobody-forgotten", "the user waits for a slot and has nothing to do", user=user)


def status_told(workflow: Workflow) -> Iterator[Violation]:
    """A workflow of which all jobs have ended is finished, and one of which a job has started is not ACCEPTED any more."""
    is_finished = workflow.status in FINISHED_WORKFLOW
    if workflow.size is None:
        return
    if not workflow.is_whole:
        message = f"{workflow.size} jobs were expected, not {len(workflow.jobs)}"
        yield _at_end("status-told", message, user=workflow.user, workflow=workflow)
    elif bool(workflow.unfinished) is is_finished:
        message = f"it is {workflow.status}, with {workflow.unfinished} of {workflow.size} jobs unfinished"
        yield _at_end("status-told", message, user=workflow.user, workflow=workflow)


def _workflows(facts: Facts) -> Iterator[Workflow]:
    return (workflow for workflow in facts.workflows.values() if isinstance(workflow, Workflow))


def _at_end(rule: str, message: str, *, user: User, workflow: Workflow | None = None, job: Job | None = None) -> Violation:
    return Violation(
        rule=rule,
        event=0,
        type="",
        message=message,
        user=user.key,
        workflow=workflow.uuid if workflow is not None else None,
        job=job.uuid if job is not None else None,
    )

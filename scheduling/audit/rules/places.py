"""Rules of places: how many jobs run, and whose."""

from __future__ import annotations

from scheduling.audit.facts import Facts, Job, User
from scheduling.audit.judging import job_rules, user_rules
from scheduling.audit.log_event import LogEvent


@job_rules.on("job.started")
def at_most_max_workers(facts: Facts, event: LogEvent, job: Job) -> str | None:
    """No more jobs run than there are places."""
    limit = facts.leader.max_workers
    return f"{facts.running} jobs run already, {limit} may" if limit is not None and facts.running >= limit else None


@job_rules.on("job.started")
def runs_in_a_slot(facts: Facts, event: LogEvent, job: Job) -> str | None:
    """A job starts only for a user who has a slot."""
    return None if job.user.has_slot or not job.user.is_known else "its user has no slot"


@job_rules.on("job.started")
def no_start_while_draining(facts: Facts, event: LogEvent, job: Job) -> str | None:
    """While the operator lets the work run out, nothing starts."""
    return "the scheduler is draining" if facts.leader.is_draining else None


@job_rules.on("job.started")
def queue_is_served(facts: Facts, event: LogEvent, job: Job) -> str | None:
    """A job starts only when there are workers of its queue."""
    expected = facts.leader.queues
    if expected is None or job.queue is None or job.queue in expected:
        return None
    return f"no worker serves the queue {job.queue}"


@user_rules.on("user.admitted")
def no_admission_while_draining(facts: Facts, event: LogEvent, user: User) -> str | None:
    """While the operator lets the work run out, slots stay as they are."""
    return "the scheduler is draining" if facts.leader.is_draining else None

"""Rules of a job's own story: states, attempts, what it needs, what its user wants."""

from __future__ import annotations

from scheduling.audit.facts import Facts, Job, Workflow
from scheduling.audit.judging import SKEW, job_rules, workflow_rules
from scheduling.audit.log_event import LogEvent
from scheduling.states import JobState, is_allowed

#: From which state to which; `job.finished` names its target.
MOVES = {
    "job.started": JobState.RUNNING,
    "job.taken_back": JobState.PENDING,
    "job.retried": JobState.PENDING,
}
_STAYS = {"job.taken_over": JobState.RUNNING, "job.cancel_requested": JobState.RUNNING}
_SOURCES = {
    "job.started": frozenset({JobState.PENDING}),
    "job.taken_back": frozenset({JobState.RUNNING}),
    "job.retried": frozenset({JobState.FAILED, JobState.CANCELLED}),
}


@job_rules.on(*MOVES, "job.finished")
def transition(facts: Facts, event: LogEvent, job: Job) -> str | None:
    """A job changes its state only as the table of transitions allows: it ends once an attempt, and never after SUCCEEDED."""
    target = MOVES.get(event.type) or JobState(event.data["state"])
    sources = _SOURCES.get(event.type, frozenset(JobState))
    if job.state in sources and is_allowed(job.state, target):
        return None
    return f"a job that is {job.state} does not become {target}"


@job_rules.on(*_STAYS)
def state_of_claim(facts: Facts, event: LogEvent, job: Job) -> str | None:
    """Only a RUNNING job is taken over, or asked to end."""
    return None if job.state is _STAYS[event.type] else f"the job was expected to be RUNNING, it is {job.state}"


@job_rules.on(*MOVES, *_STAYS, "job.finished")
def same_job(facts: Facts, event: LogEvent, job: Job) -> str | None:
    """An attempt counts one up with a retry and never else; name and lane stay."""
    attempt = job.attempt + (event.type == "job.retried")
    if event.data["attempt"] != attempt:
        return f"attempt {attempt} was expected, not {event.data['attempt']}"
    if event.data["lane"] != job.lane or event.data["job_id"] != job.name or event.user != job.user.key:
        return f"job {job.name} of user {job.user.key} in lane {job.lane} was expected"
    return None


@job_rules.on("job.started")
def dependencies_first(facts: Facts, event: LogEvent, job: Job) -> str | None:
    """A job starts when everything it depends on has SUCCEEDED."""
    for name in job.needs:
        need = job.workflow.jobs.get(name)
        if need is None:
            if job.workflow.is_whole:
                return f"it depends on job {name}, which does not exist"
        elif need.state is not JobState.SUCCEEDED:
            return f"it depends on job {name}, which is {need.state} and was expected to have SUCCEEDED"
    return None


@job_rules.on("job.started")
def not_before_retry(facts: Facts, event: LogEvent, job: Job) -> str | None:
    """A job that was taken back to be tried again later does not start sooner."""
    if job.not_before is not None and event.at < job.not_before - SKEW:
        return f"it was to be tried again at {job.not_before.isoformat()}, not at {event.at.isoformat()}"
    return None


@job_rules.on("job.started")
def not_while_paused(facts: Facts, event: LogEvent, job: Job) -> str | None:
    """No job of a paused workflow starts."""
    return "its workflow is paused" if job.workflow.is_paused else None


@job_rules.on("job.finished", "job.taken_back")
def cancelled_as_asked(facts: Facts, event: LogEvent, job: Job) -> str | None:
    """A RUNNING job is CANCELLED when its user asked for it, and does not wait again after that."""
    if event.type == "job.taken_back":
        return "its user asked for its end, so it was expected to be CANCELLED" if job.cancel_requested else None
    if event.data["state"] == JobState.CANCELLED and job.state is JobState.RUNNING and job.cancel_requested is False:
        return "nobody asked for the end of this running job"
    return None


@job_rules.on("job.started", "job.taken_back", "job.finished")
def reason_given(facts: Facts, event: LogEvent, job: Job) -> str | None:
    """What is decided about a job has its reason: why it starts, why it is taken back, why it did not succeed."""
    has_succeeded = event.data.get("state") == JobState.SUCCEEDED
    if bool(event.reason) is not has_succeeded:
        return None
    return f"no reason was expected, not {event.reason!r}" if has_succeeded else "a reason was expected"


@workflow_rules.on("job.submitted")
def submitted_once(facts: Facts, event: LogEvent, workflow: Workflow) -> str | None:
    """A job is submitted once, after all that its user submitted before, as its first attempt."""
    if event.job in facts.jobs or event.data["job_id"] in workflow.jobs:
        return "it was submitted before"
    if event.data["order"] <= workflow.user.last_order:
        return f"an order above {workflow.user.last_order} was expected, not {event.data['order']}"
    return f"attempt 1 was expected, not {event.data['attempt']}" if event.data["attempt"] != 1 else None

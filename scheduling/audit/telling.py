"""What each type of event changes in the facts. After a violation too: what follows is judged by what the log says happened."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from scheduling.audit.facts import Facts, Gone, Job, Leader, User, Workflow
from scheduling.audit.log_event import LogEvent
from scheduling.states import UNFINISHED, BranchScope, JobState, WorkflowStatus

# -- the leader


def tell_leader(facts: Facts, event: LogEvent, leader: Leader) -> None:
    """Terms and limits."""
    if event.type == "leader.elected":
        leader.term, leader.has_resigned = max(event.term, leader.term), False
        leader.max_workers = event.data.get("max_workers")
        leader.max_active_users = event.data.get("max_active_users")
        leader.slot_max_s = event.data.get("slot_max_s")
        _expect(leader, event)
        facts.terms += 1
    elif event.type == "leader.queues":
        _expect(leader, event)
    elif event.type == "leader.resigned":
        leader.has_resigned = True


def _expect(leader: Leader, event: LogEvent) -> None:
    """Slots are given for the work of these queues; a leader of earlier versions said nothing of them."""
    queues = frozenset(event.data["queues"]) if "queues" in event.data else leader.queues
    if queues != leader.queues:
        leader.queues, leader.queues_at = queues, event.at


def tell_operator(facts: Facts, event: LogEvent) -> None:
    """The operator lets the work run out, or go on."""
    facts.leader.is_draining = event.type == "scheduler.draining"
    facts.leader.drained_at = event.at


# -- jobs


def submit(facts: Facts, event: LogEvent, workflow: Workflow) -> None:
    """A new job waits."""
    assert event.job is not None
    data = event.data
    workflow.user.last_order = max(workflow.user.last_order, data["order"])
    if event.job in facts.jobs or data["job_id"] in workflow.jobs:
        return
    job = _new_job(facts, event, workflow, order=data["order"])
    job.needs, job.total, job.queue = tuple(data["depends_on"]), data["tiles_total"], data.get("queue", "cpu")
    facts.bring_in(job)


def adopt_job(facts: Facts, event: LogEvent, workflow: Workflow) -> Job:
    """A job whose submission the log does not hold, in the state that this event needs."""
    job = _new_job(facts, event, workflow, order=None)
    job.epoch = event.epoch
    if event.type == "job.retried":
        job.state, job.attempt = JobState.CANCELLED, job.attempt - 1
    elif event.epoch or event.type == "job.cancel_requested":
        job.state = JobState.PENDING if event.type == "job.started" else JobState.RUNNING
        job.cancel_requested = False if event.type == "job.started" else None
    facts.bring_in(job)
    return job


def _new_job(facts: Facts, event: LogEvent, workflow: Workflow, *, order: int | None) -> Job:
    assert event.job is not None
    data = event.data
    job = Job(event.job, data["job_id"], workflow.user, workflow, data["lane"], order, attempt=data["attempt"], told=event.id)
    facts.jobs[job.uuid] = workflow.jobs[job.name] = job
    facts.jobs_seen += 1
    return job


def start(facts: Facts, event: LogEvent, job: Job) -> None:
    """A claim."""
    _take_claim(facts, event, job)
    facts.put(job, JobState.RUNNING)
    job.not_before = None
    job.workflow.has_started = True
    if not job.user.is_known:
        facts.set_slot(job.user, None)


def _take_claim(facts: Facts, event: LogEvent, job: Job) -> None:
    job.epoch = event.epoch
    facts.leader.epoch = max(facts.leader.epoch, event.epoch)


def take_back(facts: Facts, event: LogEvent, job: Job) -> None:
    """A claim ended; the job waits again in its place."""
    facts.put(job, JobState.PENDING)
    retry_in_s = event.data.get("retry_in_s")
    job.not_before = event.at + timedelta(seconds=retry_in_s) if retry_in_s is not None else None
    job.tiles = max(job.tiles, event.data["tiles"])
    job.cancel_requested = False


def end(facts: Facts, event: LogEvent, job: Job) -> None:
    """A job ended."""
    facts.put(job, JobState(event.data["state"]))
    job.tiles = max(job.tiles, event.data["tiles"])
    job.not_before = None


def retry(facts: Facts, event: LogEvent, job: Job) -> None:
    """The next attempt waits in the old place."""
    facts.put(job, JobState.PENDING)
    job.attempt = event.data["attempt"]
    job.tiles, job.cancel_requested, job.not_before = 0, False, None


def ask_for_end(facts: Facts, event: LogEvent, job: Job) -> None:
    """Its user wants it to end."""
    job.cancel_requested = True


# -- workflows


def tell_workflow(facts: Facts, event: LogEvent, workflow: Workflow) -> None:
    """Status, pause, and the end of the story."""
    match event.type:
        case "workflow.submitted":
            workflow.size = event.data["jobs"]
            workflow.shares_lanes = event.data["branch_scope"] == BranchScope.USER
        case "workflow.started" | "workflow.finished" | "workflow.reopened":
            workflow.status = WorkflowStatus(event.data["status"])
            workflow.has_started |= event.type == "workflow.started"
        case "workflow.paused" | "workflow.resumed":
            facts.set_paused(workflow, paused=event.type == "workflow.paused")
    is_over = workflow.status is WorkflowStatus.SUCCEEDED or event.type == "workflow.deleted"
    if is_over and not any(job.state in UNFINISHED for job in workflow.jobs.values()):
        facts.settle(workflow, Gone.DELETED if event.type == "workflow.deleted" else Gone.SUCCEEDED)


def adopt_workflow(facts: Facts, event: LogEvent) -> Workflow:
    """A workflow whose submission the log does not hold (or is this event)."""
    assert event.workflow is not None
    assert event.user is not None
    workflow = facts.workflows[event.workflow] = Workflow(
        event.workflow, facts.user(event.user), is_told=event.type == "workflow.submitted"
    )
    if event.type == "workflow.resumed":
        workflow.is_paused = True
    return workflow


# -- users


def tell_user(facts: Facts, event: LogEvent, user: User) -> None:
    """Slots and places in the queue."""
    match event.type:
        case "user.waiting":
            told_at = event.at if event.term == 0 else None
            facts.set_waiting(user, _since(event), told_at)
        case "user.admitted":
            facts.set_slot(user, _since(event))
        case "user.left_queue":
            facts.set_waiting(user, None)
        case "user.released":
            facts.clear_slot(user)
        case "user.requeued":
            facts.clear_slot(user)
            facts.set_waiting(user, _since(event))


def _since(event: LogEvent) -> datetime:
    return datetime.fromisoformat(event.data["since"])


#: What a job event changes; `job.submitted` is about the workflow it belongs to.
OF_JOB: dict[str, Callable[[Facts, LogEvent, Job], None]] = {
    "job.started": start,
    "job.taken_over": _take_claim,
    "job.taken_back": take_back,
    "job.finished": end,
    "job.retried": retry,
    "job.cancel_requested": ask_for_end,
}

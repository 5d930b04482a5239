"""Events of a workflow in words, for its activity list. Pure; no queries, no HTML."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dashboard import wording
from dashboard.presenters import LOOKS, Body

#: Kind of event -> (icon, look, words). {job} is the job's id, {actor} a user id.
ACTIVITY: dict[str, tuple[str, str, str]] = {
    "workflow.submitted": ("plus", "", "Workflow created by {actor} with {jobs} in {branches}"),
    "workflow.finished": ("workflow", "", "Workflow {status}"),
    "workflow.started": ("play", "running", "Workflow started"),
    "workflow.reopened": ("sync", "", "Workflow goes on"),
    "workflow.paused": ("pause", "", "Paused by {actor}"),
    "workflow.resumed": ("play", "", "Resumed by {actor}"),
    "job.started": ("play", "running", "{job} started"),
    "job.finished": ("info", "", "{job} {status}"),
    "job.cancel_requested": ("stop", "cancelled", "Cancel of {job} asked for by {actor}"),
    "job.taken_back": ("clock", "", "{job} waits again"),
    "job.retried": ("sync", "", "{job} retried by {actor}"),
    "job.taken_over": ("play", "running", "{job} goes on under a new scheduler"),
}
ENDS = {"workflow.finished", "job.finished"}


@dataclass(frozen=True, kw_only=True)
class ActivityLine:
    """One event of the activity list."""

    icon: str
    look: str
    text: str
    reason: str
    at: str
    ago: str


def activity_line(event: Body, now: datetime) -> ActivityLine:
    """An event in words; a kind that has no words of its own is shown by its name."""
    kind, data = event["type"], event["data"]
    plain = kind.partition(".")[2].replace("_", " ")
    icon, look, words = ACTIVITY.get(kind, ("info", "", f"{{job}} {plain}" if event["job_id"] else plain.capitalize()))
    text = words.format(
        actor=event["actor"],
        job=event["job_id"] or "job",
        jobs=wording.plural(int(data.get("jobs", 0)), "job"),
        branches=wording.plural(int(data.get("branches", 0)), "branch"),
        status=(status := str(data.get("status") or data.get("state") or "finished").lower()),
    )
    if kind in ENDS and status in LOOKS:
        icon, look = LOOKS[status]["icon"], status
    at = wording.moment(event["at"])
    passed = (now - at).total_seconds() if at else 0.0
    # Why a job was started (its turn among users) is for operators.
    tells = kind in {"job.finished", "job.taken_back"} and event["reason"] != status
    reason = event["reason"] if tells else ""
    if data.get("cached") and not reason:
        reason = "taken from the same work done before"
    return ActivityLine(icon=icon, look=look, text=text, reason=reason, at=event["at"], ago=wording.ago(passed))

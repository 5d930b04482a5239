"""Events of a workflow in words, for its activity list. Pure; no queries, no HTML."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dashboard import wording
from dashboard.presenters import Body

#: Kind of event -> (icon, look, words). {job} is the job's id, {actor} a user id.
ACTIVITY: dict[str, tuple[str, str, str]] = {
    "workflow.submitted": ("plus", "", "Workflow created by {actor} with {jobs} in {branches}"),
    "workflow.finished": ("check", "", "Workflow {status}"),
    "workflow.cancel_requested": ("stop", "cancelled", "Cancel asked for by {actor}"),
    "workflow.retried": ("sync", "", "Retried by {actor}"),
    "job.claimed": ("play", "running", "{job} started"),
    "job.started": ("play", "running", "{job} started"),
    "job.succeeded": ("st-succeeded", "succeeded", "{job} succeeded"),
    "job.failed": ("st-failed", "failed", "{job} failed"),
    "job.cancelled": ("stop", "cancelled", "{job} cancelled"),
    "job.retried": ("sync", "", "{job} retried by {actor}"),
    "job.planned": ("workflow", "", "{job} planned"),
    "user.admitted": ("person", "", "{actor} became active"),
}


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
        status=str(data.get("status", "finished")).lower(),
    )
    at = wording.moment(event["at"])
    passed = (now - at).total_seconds() if at else 0.0
    # A claim's reason explains the choice between users: of use to operators, not here.
    reason = event["reason"] if kind in {"job.failed", "job.cancelled", "job.preempted", "job.lost"} else ""
    return ActivityLine(icon=icon, look=look, text=text, reason=reason, at=event["at"], ago=wording.ago(passed))

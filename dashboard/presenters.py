"""From the bodies of the API to what pages show: state -> look, percent, reason. Pure; no queries, no HTML.

The tables reach the browser as JSON (`look_table`), so that a state has one label and one icon.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

from dashboard import wording
from scheduling.states import FINISHED, FINISHED_WORKFLOW, RETRYABLE, UNFINISHED, JobState, WorkflowStatus

Body = Mapping[str, Any]


class Look(TypedDict):
    """How a state looks: a word and a shape; the colour follows from the look's name in CSS."""

    label: str
    icon: str


LOOKS: dict[str, Look] = {
    "queued": {"label": "Queued", "icon": "st-queued"},
    "held": {"label": "Waiting", "icon": "st-held"},
    "paused": {"label": "Paused", "icon": "pause"},
    "retrying": {"label": "Retrying", "icon": "st-retrying"},
    "running": {"label": "Running", "icon": "st-running"},
    "succeeded": {"label": "Succeeded", "icon": "st-succeeded"},
    "failed": {"label": "Failed", "icon": "st-failed"},
    "cancelled": {"label": "Cancelled", "icon": "st-cancelled"},
    "skipped": {"label": "Skipped", "icon": "st-skipped"},
}
#: A waiting reason that begins so -> look. Any other waiting job is `queued`: it waits with no blocker of its own.
WAITING_LOOKS = {"behind ": "held", "waiting for job ": "held", "paused": "held", "retrying": "retrying"}
USER_CANCELLED = "cancelled"
_BY_STATE = {
    JobState.RUNNING: "running",
    JobState.SUCCEEDED: "succeeded",
    JobState.FAILED: "failed",
}
_BY_STATUS = {
    WorkflowStatus.ACCEPTED: "queued",
    WorkflowStatus.RUNNING: "running",
    WorkflowStatus.SUCCEEDED: "succeeded",
    WorkflowStatus.FAILED: "failed",
    WorkflowStatus.CANCELLED: "cancelled",
}
#: Too early for a mean that says anything.
MIN_MEASURED_S = 2.0
#: Jobs that a card names as those it depends on.
MAX_NAMED = 3


def look_table() -> dict[str, Any]:
    """What the browser needs to choose looks by the same rules."""
    return {"looks": LOOKS, "waiting": WAITING_LOOKS, "states": _BY_STATE, "statuses": _BY_STATUS}


def job_look(job: Body) -> str:
    """The look of a job. A job cancelled because of another one is `skipped`."""
    state = JobState(job["state"])
    if state == JobState.CANCELLED:
        return "cancelled" if (job["error"] or USER_CANCELLED).startswith(USER_CANCELLED) else "skipped"
    if state == JobState.PENDING:
        reason = job["waiting_reason"] or ""
        return next((look for start, look in WAITING_LOOKS.items() if reason.startswith(start)), "queued")
    return _BY_STATE[state]


def workflow_look(workflow: Body) -> str:
    """The look of a workflow: its status, unless it is held by its user."""
    if workflow["paused"] and workflow["status"] not in FINISHED_WORKFLOW:
        return "paused"
    return _BY_STATUS[WorkflowStatus(workflow["status"])]


def mean_rate(tiles: int, started_at: str | None, finished_at: str | None, now: datetime) -> float | None:
    """Tiles a second since the start; None when too little was measured."""
    seconds = wording.seconds_between(started_at, finished_at, now)
    return None if not tiles or seconds is None or seconds < MIN_MEASURED_S else tiles / seconds


def live_rate(jobs: Sequence[Body]) -> float | None:
    """Tiles a second of the jobs that run, as the leader has measured them; None when nothing was measured."""
    return sum(job["tiles_per_s"] or 0.0 for job in jobs if job["state"] == JobState.RUNNING) or None


def job_foot(job: Body, now: datetime) -> str:
    """The last line of a job's card: pace, reason, or how long it took."""
    state = JobState(job["state"])
    took = wording.seconds_between(job["started_at"], job["finished_at"], now)
    if state == JobState.PENDING:
        return str(job["waiting_reason"] or "waiting")
    if state == JobState.RUNNING:
        return _running_foot(job, now)
    if state == JobState.CANCELLED:
        return str(job["error"] or "cancelled")
    return (
        ""
        if took is None
        else f"took {wording.duration(took)}"
        if state == JobState.SUCCEEDED
        else f"failed after {wording.duration(took)}"
    )


def _running_foot(job: Body, now: datetime) -> str:
    if job["tiles_total"] is None:
        return "planning"
    if job["tiles_processed"] == job["tiles_total"]:
        return "writing results"
    if job["tiles_per_s"] is None or job["estimated_end"] is None:
        return "just started"
    return f"{wording.rate(job['tiles_per_s'])} · {wording.estimate(wording.seconds_until(job['estimated_end'], now))} left"


def starts_in(estimated_start: str | None, now: datetime) -> str:
    """`, in about 3m 15s`; "" when it is not known."""
    return "" if estimated_start is None else f", in {wording.estimate(wording.seconds_until(estimated_start, now))}"


@dataclass(frozen=True, kw_only=True)
class Shown(ABC):
    """What has a state and a progress; `body` is as the API shows it."""

    body: Body

    @property
    @abstractmethod
    def look(self) -> str:
        """Name in LOOKS."""

    @property
    def icon(self) -> str:
        """Symbol of the sprite."""
        return LOOKS[self.look]["icon"]

    @property
    def label(self) -> str:
        """Word for the state."""
        return LOOKS[self.look]["label"]

    @property
    def percent(self) -> int:
        """0 to 100."""
        return wording.percent(self.body["progress"])


class ShownWorkflow(Shown):
    """A workflow, on its page or in a list."""

    @property
    def look(self) -> str:
        """Name in LOOKS."""
        return workflow_look(self.body)

    @property
    def is_finished(self) -> bool:
        """Whether all its jobs have ended."""
        return self.body["status"] in FINISHED_WORKFLOW


@dataclass(frozen=True, kw_only=True)
class SlideLabel:
    """A slide on a card."""

    name: str
    thumbnail: str


@dataclass(frozen=True, kw_only=True)
class JobCard(Shown):
    """One job of a workflow page."""

    title: str
    slide: SlideLabel | None
    foot: str

    @property
    def look(self) -> str:
        """Name in LOOKS."""
        return job_look(self.body)

    @property
    def tiles(self) -> str:
        """`3,208`"""
        return wording.count(self.body["tiles_processed"])

    @property
    def total(self) -> str:
        """`8,448`, a dash before the job is planned."""
        return wording.count(self.body["tiles_total"])

    @property
    def after(self) -> str:
        """`after j1, j3`, `after j1, j3, j4 and 9 more`; "" for a job that depends on no other."""
        needs: Sequence[str] = self.body["depends_on"]
        more = len(needs) - MAX_NAMED
        return f"after {', '.join(needs[:MAX_NAMED])}{f' and {more:,} more' if more > 0 else ''}" if needs else ""

    @property
    def error(self) -> str:
        """Why it failed; a cancelled job's reason is its foot."""
        return str(self.body["error"] or "") if self.body["state"] == JobState.FAILED else ""

    @property
    def can_cancel(self) -> bool:
        """Whether there is something to cancel."""
        return self.body["state"] in UNFINISHED

    @property
    def can_retry(self) -> bool:
        """Whether a retry is allowed."""
        return self.body["state"] in RETRYABLE

    @property
    def has_results(self) -> bool:
        """Whether its artifacts may be asked for."""
        return bool(self.body["state"] == JobState.SUCCEEDED)


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One branch of a workflow page, jobs in order."""

    branch: str
    cards: Sequence[JobCard]

    @property
    def done(self) -> int:
        """Jobs that have ended."""
        return sum(card.body["state"] in FINISHED for card in self.cards)

    @property
    def summary(self) -> str:
        """`1 of 4 jobs`"""
        return f"{self.done} of {wording.plural(len(self.cards), 'job')}"


def lanes_of(cards: Sequence[JobCard]) -> list[Lane]:
    """Cards by branch, branches in order of their first job."""
    by_branch: dict[str, list[JobCard]] = {}
    for card in cards:
        by_branch.setdefault(card.body["branch"], []).append(card)
    return [Lane(branch=branch, cards=lane) for branch, lane in by_branch.items()]


@dataclass(frozen=True, kw_only=True)
class WorkflowPage(ShownWorkflow):
    """Head and summary of a workflow page."""

    number: int
    now: datetime

    @property
    def title(self) -> str:
        """The name, or what stands for it."""
        return self.body["name"] or "Workflow"

    @property
    def has_retryable(self) -> bool:
        """Whether a job may be retried."""
        return any(job["state"] in RETRYABLE for job in self.body["jobs"])

    @property
    def unfinished(self) -> int:
        """Jobs that a cancel would end."""
        return sum(job["state"] in UNFINISHED for job in self.body["jobs"])

    @property
    def done(self) -> int:
        """Jobs that have ended."""
        return len(self.body["jobs"]) - self.unfinished

    @property
    def tiles(self) -> int:
        """Tiles finished in all jobs."""
        return sum(job["tiles_processed"] for job in self.body["jobs"])

    @property
    def total(self) -> int | None:
        """Tiles of all jobs; None while a job is not planned."""
        totals = [job["tiles_total"] for job in self.body["jobs"]]
        return None if None in totals else sum(totals)

    @property
    def elapsed(self) -> str:
        """Since the first job began."""
        seconds = wording.seconds_between(self.body["started_at"], self.body["finished_at"], self.now)
        return "not started" if seconds is None else wording.duration(seconds)

    @property
    def rate(self) -> float | None:
        """Tiles a second: of the jobs that run now, else the mean."""
        live = None if self.is_finished else live_rate(self.body["jobs"])
        return live or mean_rate(self.tiles, self.body["started_at"], self.body["finished_at"], self.now)

    @property
    def rate_text(self) -> str:
        """The throughput in words."""
        return wording.UNKNOWN if self.rate is None else wording.rate(self.rate)

    @property
    def time_left(self) -> str:
        """Until all jobs have ended, if they go on at this rate."""
        known = self.total is not None and self.rate and not self.body["paused"]
        return wording.estimate((self.total - self.tiles) / self.rate if known and self.rate and self.total is not None else None)

    @property
    def queued_text(self) -> str:
        """Where its user stands in the queue."""
        who = f"{self.body['user_id']} is number {self.body['queue_position']} of the waiting users"
        return f"{who}; jobs start when a slot becomes free{starts_in(self.body['estimated_start'], self.now)}."

    @property
    def segments(self) -> list[tuple[str, float, float]]:
        """The stacked bar: (look, start, width), both in percent of all jobs."""
        return stacked(self.body["jobs"])


STACK_ORDER = ("succeeded", "running", "failed", "cancelled", "queued")


def stacked(jobs: Sequence[Body]) -> list[tuple[str, float, float]]:
    """Progress of the jobs by state, side by side: (look, start, width) in percent, each job of equal weight."""
    sums = dict.fromkeys(STACK_ORDER, 0.0)
    for job in jobs:
        look = {JobState.PENDING: "queued"}.get(job["state"], job["state"].lower())
        sums[look] += float(job["progress"])
    segments, start = [], 0.0
    for look in STACK_ORDER:
        width = round(100 * sums[look] / max(1, len(jobs)), 3)
        segments.append((look, round(start, 3), width))
        start += width
    return segments

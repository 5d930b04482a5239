"""What a client of the socket has been told, and the least that brings it up to date. Pure: no sockets, no clock, no database.

The differences of two bodies replace a queue of messages: whatever piled up while an acknowledgement was missing becomes
one delta. Bodies are never changed in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scheduling.live.updates import JobProgress
from scheduling.selectors.workflows import mean_progress
from scheduling.states import UNFINISHED

Body = Mapping[str, Any]
#: Reads the body of a topic. Raises NotFound.
Reader = Callable[[], Body]

#: Lists whose entries change one by one: key in the body -> fields that name an entry and come with every change.
NAMED_LISTS = {"jobs": ("job_id", "id"), "results": ("workflow_id",)}


def difference(before: Body, after: Body) -> dict[str, Any] | None:
    """The changed fields; {} when nothing changed, None when only the whole body can tell (other keys, other entries)."""
    if before.keys() != after.keys():
        return None
    changed: dict[str, Any] = {}
    for key, value in after.items():
        if value == before[key]:
            continue
        if key in NAMED_LISTS:
            entries = _changed_entries(before[key], value, NAMED_LISTS[key])
            if entries is None:
                return None
            changed[key] = entries
        else:
            changed[key] = value
    return changed


def _changed_entries(before: Sequence[Body], after: Sequence[Body], names: tuple[str, ...]) -> list[dict[str, Any]] | None:
    if [entry[names[0]] for entry in before] != [entry[names[0]] for entry in after]:
        return None
    changes = []
    for old, new in zip(before, after, strict=True):
        if old.keys() != new.keys() or any(old[name] != new[name] for name in names):
            return None
        if old != new:
            changes.append({**{name: new[name] for name in names}, **{key: value for key, value in new.items() if value != old[key]}})
    return changes


def with_progress(body: Body, progress: Iterable[JobProgress]) -> Body:
    """A workflow's body after reports of finished tiles: never lower within an attempt, nothing for a job that has ended."""
    reports = {report["id"]: report for report in progress}
    jobs = [_job_with_progress(job, reports.get(job["id"])) for job in body["jobs"]]
    if all(new is old for new, old in zip(jobs, body["jobs"], strict=True)):
        return body
    return {**body, "jobs": jobs, "progress": mean_progress(job["progress"] for job in jobs)}


def _job_with_progress(job: Body, report: JobProgress | None) -> Body:
    if report is None or report["attempt"] != job["attempt"] or job["state"] not in UNFINISHED:
        return job
    total = report["tiles_total"] or job["tiles_total"]
    if not total or not job["tiles_processed"] < report["tiles_processed"] <= total:
        return job
    return {**job, "tiles_total": total, "tiles_processed": report["tiles_processed"], "progress": report["tiles_processed"] / total}


def not_behind(read: Body, known: Body) -> Body:
    """A body just read, with tiles that reports told of already: the database is written less often than reports are sent."""
    reports: list[JobProgress] = [
        {"id": job["id"], "attempt": job["attempt"], "tiles_processed": job["tiles_processed"], "tiles_total": job["tiles_total"]}
        for job in known["jobs"]
    ]
    return with_progress(read, reports)


class Picture:
    """One topic on one socket: the body that the client holds, and the newest that is known."""

    def __init__(self, body: Body) -> None:
        self._held: Body | None = None
        self._newest = body

    @property
    def is_stale(self) -> bool:
        """Whether the client may hold something else than what is known; cheap, may be wrong upwards."""
        return self._held is not self._newest

    def take_read(self, body: Body) -> None:
        """A body read from the database."""
        self._newest = not_behind(body, self._newest) if "jobs" in body else body

    def take_progress(self, progress: Iterable[JobProgress]) -> None:
        """Reports of finished tiles of jobs of this body."""
        self._newest = with_progress(self._newest, progress)

    def snapshot(self) -> Body:
        """All of it; the client then holds it."""
        self._held = self._newest
        return self._newest

    def changes(self) -> dict[str, Any] | None:
        """What a delta must carry ({} = nothing); the client then holds it. None when a snapshot must be sent."""
        changed = None if self._held is None else difference(self._held, self._newest)
        if changed is not None:
            self._held = self._newest
        return changed


@dataclass
class Flow:
    """Numbers the frames of a socket from 1 and keeps at most one delta without acknowledgement. Times are in seconds."""

    patience_s: float
    sent: int = 0
    acknowledged: int = 0
    _unanswered_since: float | None = None

    def number(self, now_s: float) -> int:
        """The number of the frame that is sent now."""
        self.sent += 1
        if self._unanswered_since is None:
            self._unanswered_since = now_s
        return self.sent

    def acknowledge(self, number: int) -> bool:
        """The client has this frame and all before it. False for a frame that was never sent."""
        if not 0 < number <= self.sent:
            return False
        self.acknowledged = max(self.acknowledged, number)
        if self.is_open:
            self._unanswered_since = None
        return True

    @property
    def is_open(self) -> bool:
        """Whether a delta may be sent."""
        return self.acknowledged == self.sent

    def deadline_s(self) -> float | None:
        """When patience ends; None while nothing is unanswered."""
        return None if self._unanswered_since is None else self._unanswered_since + self.patience_s


@dataclass
class Pace:
    """When a topic is read again: soon after news, never faster than its gap, and now and then without news."""

    safety_s: float
    read_s: float
    due_s: float

    @classmethod
    def started(cls, now_s: float, safety_s: float) -> Pace:
        """Read just now."""
        return cls(safety_s=safety_s, read_s=now_s, due_s=now_s + safety_s)

    def news(self, now_s: float, gap_s: float) -> None:
        """Something changed; read when `gap_s` has passed since the last read."""
        self.due_s = min(self.due_s, max(now_s, self.read_s + gap_s))

    def was_read(self, now_s: float) -> None:
        """Read just now."""
        self.read_s, self.due_s = now_s, now_s + self.safety_s

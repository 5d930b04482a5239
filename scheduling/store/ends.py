"""The leader's ends of jobs, with what follows from them in their branches, and the progress of running ones. All in sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Self
from uuid import UUID

from scheduling.engine.entry import End, Entry
from scheduling.models import Event
from scheduling.states import JobState, OnFailure
from scheduling.store import sets
from scheduling.store.events import SCHEDULER, finished_event, job_event
from scheduling.store.lease import Lease
from scheduling.store.transition import check_moves
from scheduling.store.workflows import record_moves

#: The key in `Job.tries` of planning and finishing.
PLAN = "plan"


@dataclass(kw_only=True, slots=True)
class JobFacts:
    """As much of a job's row as its end and the log ask for."""

    pk: int
    uuid: UUID
    workflow_id: int
    workflow_uuid: UUID
    owner_id: int
    job_id: str
    branch: str
    lane: str
    job_type: str
    attempt: int
    tiles_processed: int
    tiles_total: int | None
    cached: bool

    @classmethod
    def of(cls, row: Sequence[Any]) -> Self:
        """From the columns of FACTS."""
        pk, uuid, workflow_id, workflow_uuid, owner, job_id, branch, lane, job_type, attempt, processed, total, cached = row
        return cls(
            pk=pk,
            uuid=sets.as_uuid(uuid),
            workflow_id=workflow_id,
            workflow_uuid=sets.as_uuid(workflow_uuid),
            owner_id=owner,
            job_id=job_id,
            branch=branch,
            lane=lane,
            job_type=job_type,
            attempt=attempt,
            tiles_processed=processed,
            tiles_total=total,
            cached=bool(cached),
        )


#: Of a job `j` and its workflow `w`.
FACTS = (
    "j.id, j.uuid, j.workflow_id, w.uuid, j.owner_id, j.job_id, j.branch, j.lane, j.job_type, j.attempt, "
    "j.tiles_processed, j.tiles_total, j.cached"
)
FACTS_COUNT = 13


@dataclass(kw_only=True, slots=True)
class Ending:
    """An end and the job that it ends."""

    end: End
    job: JobFacts
    on_failure: str
    cancel_requested: bool
    started_at: datetime | None
    claimed_at: datetime | None
    ran_s: float
    #: Of its tiles.
    digest: str
    is_simulated: bool

    @property
    def needs_no_tiles(self) -> bool:
        """As specs.needs_no_tiles: the artifacts are complete, and nobody looks at the tiles."""
        return self.is_simulated and self.end.state == JobState.SUCCEEDED


# -- ends


def end_jobs(lease: Lease, ends: Iterable[End], now: datetime) -> list[Ending]:
    """End these jobs by their epoch, inside the leader's transaction; those that were still ours, as asked for."""
    ours = {ending.job.pk: ending for ending in _claims_of(list(ends))}
    if not ours:
        return []
    check_moves({JobState.RUNNING}, {ending.end.state for ending in ours.values()})
    written = {key for (key,) in sets.ask(_end_sql(), *sets.rows(_row_of(ending, now) for ending in ours.values()))}
    ended = [ending for key, ending in ours.items() if key in written]
    moved = [(ending.job.workflow_id, _told(ending, lease.term)) for ending in ended]
    stopped = _stop_branches(lease, [ending.job for ending in ended if _stops_branch(ending)], now)
    record_moves([*moved, *stopped], now, term=lease.term)
    return ended


@cache
def _claims_sql() -> str:
    return (
        f"WITH v AS ({sets.table(key='key', epoch='key')}) "  # noqa: S608  (texts of ours)
        f"SELECT {FACTS}, w.on_failure, j.cancel_requested, j.started_at, j.claimed_at, j.ran_s, j.digest, j.slide_id "
        f"FROM v JOIN scheduling_job j ON j.id = v.key AND j.epoch = v.epoch AND {sets.still('RUNNING', 'j')} "
        "JOIN scheduling_workflow w ON w.id = j.workflow_id"
    )


def _claims_of(ends: Sequence[End]) -> list[Ending]:
    """Those of these ends whose claims still run, in the order given."""
    if not ends:
        return []
    found = {row[0]: row for row in sets.ask(_claims_sql(), *sets.rows((end.job, end.epoch) for end in ends))}
    return [_ending(end, found[end.job]) for end in ends if end.job in found]


def _ending(end: End, row: Sequence[Any]) -> Ending:
    on_failure, is_cancelled, started_at, claimed_at, ran_s, digest, slide = row[FACTS_COUNT:]
    if end.state == JobState.PENDING and is_cancelled:
        # Asked for while the job was being taken back: nobody would look at the request any more.
        end = replace(end, state=JobState.CANCELLED, error="cancelled", reason="")
    job = JobFacts.of(row[:FACTS_COUNT])
    job.tiles_total = end.tiles_total if end.tiles_total is not None else job.tiles_total
    job.tiles_processed, job.cached = end.tiles_processed, end.cached
    return Ending(
        end=end,
        job=job,
        on_failure=on_failure,
        cancel_requested=bool(is_cancelled),
        started_at=sets.as_time(started_at),
        claimed_at=sets.as_time(claimed_at),
        ran_s=ran_s,
        digest=digest,
        is_simulated=slide is None,
    )


_END = {
    "key": "key",
    "epoch": "key",
    "state": "text",
    "tiles_total": "key",
    "tiles_processed": "key",
    "warnings": "json",
    "cached": "flag",
    "finished_at": "moment",
    "error": "text",
    "traceback": "text",
    "artifacts": "json",
    "disk_bytes": "key",
    "retry_at": "moment",
    "retry_reason": "text",
    "tries": "json",
    "disk_since": "moment",
    "ran_s": "number",
}


@cache
def _end_sql() -> str:
    kept = {"disk_bytes"}
    written = [f"{name} = v.{name}" for name in _END if name not in {"key", "epoch", *kept}]
    return (
        f"WITH v AS ({sets.table(**_END)}) "  # noqa: S608
        f"UPDATE scheduling_job SET {', '.join(written)}, disk_bytes = COALESCE(v.disk_bytes, scheduling_job.disk_bytes) "
        f"FROM v WHERE scheduling_job.id = v.key AND scheduling_job.epoch = v.epoch AND {sets.still('RUNNING', 'scheduling_job')} "
        "RETURNING scheduling_job.id"
    )


def _row_of(ending: Ending, now: datetime) -> tuple[Any, ...]:
    """In the order of `_END`. A job that waits again carries over what its next claim must know."""
    end, job = ending.end, ending.job
    is_over = end.state != JobState.PENDING
    # The wall clock may have gone back.
    finished_at = max(now, ending.started_at or now) if is_over else None
    retry_at = now + timedelta(seconds=end.retry_in_s) if end.retry_in_s > 0 and not is_over else None
    disk_since = None if end.refused_for_s is None or is_over else now - timedelta(seconds=end.refused_for_s)
    waiting = (
        retry_at,
        "" if is_over else end.retry_reason[:200],
        {PLAN if tile is None else str(tile): count for tile, count in end.tries.items()},
        disk_since,
        ending.ran_s + (0.0 if is_over else seconds_since(ending.claimed_at, now)),
    )
    result = (finished_at, end.error, end.traceback, end.artifacts, end.disk_bytes)
    return (job.pk, end.epoch, str(end.state), job.tiles_total, end.tiles_processed, end.warnings, end.cached, *result, *waiting)


def seconds_since(moment: datetime | None, now: datetime) -> float:
    """Never negative: the wall clock may have gone back. 0 for None."""
    return 0.0 if moment is None else max(0.0, (now - moment).total_seconds())


def _told(ending: Ending, term: int) -> Event:
    end, job = ending.end, ending.job
    claim: dict[str, Any] = {"actor": SCHEDULER, "term": term, "epoch": end.epoch, "tiles": end.tiles_processed}
    if end.state == JobState.PENDING:
        return job_event("job.taken_back", job, job.workflow_uuid, reason=end.reason, retry_in_s=end.retry_in_s or None, **claim)
    return finished_event(job, job.workflow_uuid, end.state, reason=end.error, index_sha256=end.index_sha256, **claim)


# -- cancelled by the scheduler


def _stops_branch(ending: Ending) -> bool:
    return ending.end.state == JobState.FAILED and ending.on_failure == OnFailure.STOP


@cache
def _rest_sql() -> str:
    return (
        f"WITH v AS ({sets.table(key='key', workflow='key', branch='text', reason='text')}) "  # noqa: S608
        "SELECT j.id, v.reason FROM v JOIN scheduling_job j "
        "ON j.workflow_id = v.workflow AND j.branch = v.branch AND j.state = 'PENDING' AND j.id > v.key"
    )


def _stop_branches(lease: Lease, failed: Sequence[JobFacts], now: datetime) -> list[tuple[int, Event]]:
    """Cancel the rest of these branches in their workflows; other branches are never touched. What is to be logged, as cancel_waiting."""
    if not failed:
        return []
    asked = ((job.pk, job.workflow_id, job.branch, f"job {job.job_id} before it in the branch has failed") for job in failed)
    return cancel_waiting(lease, dict(sets.ask(_rest_sql(), *sets.rows(asked))), now)


@cache
def _waiting_sql() -> str:
    return (
        f"WITH v AS ({sets.table(key='key')}) "  # noqa: S608
        f"SELECT {FACTS} FROM v JOIN scheduling_job j ON j.id = v.key AND {sets.still('PENDING', 'j')} "
        "JOIN scheduling_workflow w ON w.id = j.workflow_id ORDER BY j.id"
    )


@cache
def _cancel_sql() -> str:
    return (
        f"WITH v AS ({sets.table(key='key', error='text', finished_at='moment')}) "  # noqa: S608
        "UPDATE scheduling_job SET state = 'CANCELLED', finished_at = v.finished_at, error = v.error "
        f"FROM v WHERE scheduling_job.id = v.key AND {sets.still('PENDING', 'scheduling_job')} RETURNING scheduling_job.id"
    )


def cancel_waiting(lease: Lease, reasons: dict[int, str], now: datetime) -> list[tuple[int, Event]]:
    """Cancel PENDING jobs for reasons of the scheduler's own, by job; what is still to be logged: (workflow, event)."""
    if not reasons:
        return []
    check_moves({JobState.PENDING}, {JobState.CANCELLED})
    jobs = [JobFacts.of(row) for row in sets.ask(_waiting_sql(), *sets.keys(reasons))]
    gone = {key for (key,) in sets.ask(_cancel_sql(), *sets.rows((key, reason, now) for key, reason in reasons.items()))}
    return [(job.workflow_id, _cancelled(job, reasons[job.pk], lease.term)) for job in jobs if job.pk in gone]


def _cancelled(job: JobFacts, reason: str, term: int) -> Event:
    told: dict[str, Any] = {"actor": SCHEDULER, "reason": reason, "term": term, "tiles": job.tiles_processed}
    return finished_event(job, job.workflow_uuid, JobState.CANCELLED, **told)


# -- progress


@cache
def _progress_sql() -> str:
    columns = {"key": "key", "epoch": "key", "tiles_total": "key", "tiles_processed": "key", "tiles_per_s": "number"}
    return (
        f"WITH v AS ({sets.table(**columns)}) "  # noqa: S608
        "UPDATE scheduling_job SET tiles_total = v.tiles_total, tiles_processed = v.tiles_processed, tiles_per_s = v.tiles_per_s "
        f"FROM v WHERE scheduling_job.id = v.key AND scheduling_job.epoch = v.epoch AND {sets.still('RUNNING', 'scheduling_job')}"
    )


def save_progress(entries: Iterable[Entry]) -> None:
    """Write the progress of running jobs in one statement; a row of another epoch is not touched."""
    told = [(e.claimed.job, e.claimed.epoch, e.tiles_total, e.progress, e.tiles_per_s) for e in entries]
    if told:
        sets.change(_progress_sql(), *sets.rows(told))

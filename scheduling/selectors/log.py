"""The event log as the checker reads it: in order of id, a chunk at a time, as of one moment."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path

import orjson
from django.db import connection, transaction
from django.db.models import Max

from scheduling.audit.log_event import LogEvent
from scheduling.audit.rows import Row
from scheduling.audit.words import TRIMMED
from scheduling.models import Event, Job
from scheduling.states import JobState
from scheduling.store.sql_words import UNFINISHED

CHUNK = 2000
#: So many jobs are asked for at a time.
BATCH = 200
_FIELDS = ("id", "at", "type", "user_id", "workflow_uuid", "job_uuid", "term", "epoch", "actor", "reason", "data")


def log_events(since: int = 0) -> Iterator[LogEvent]:
    """The log from event `since` on. One statement, so that no event that is committed meanwhile comes in between.

    PostgreSQL needs a transaction to hand the rows out in chunks; on SQLite one would keep the writers out.
    """
    rows = Event.objects.filter(id__gte=since).order_by("id").values_list(*_FIELDS)
    with transaction.atomic() if connection.vendor == "postgresql" else nullcontext():
        for row in rows.iterator(chunk_size=CHUNK):
            id_, at, kind, user, workflow, job, term, epoch, actor, reason, data = row
            yield LogEvent(
                id=id_,
                at=at,
                type=kind,
                user=user,
                workflow=str(workflow) if workflow is not None else None,
                job=str(job) if job is not None else None,
                term=term,
                epoch=epoch,
                actor=actor,
                reason=reason,
                data=data,
            )


def file_events(path: Path, since: int = 0) -> Iterator[LogEvent]:
    """A log of JSON lines, from event `since` on. Raises OSError, ValueError naming the line."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                event = LogEvent.from_json(orjson.loads(line))
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise ValueError(f"line {number} of {path} is no event: {error}") from error
            if event.id >= since:
                yield event


def log_trimmed_before() -> datetime | None:
    """Events older than this may have been removed; None when none was."""
    return _before(Event.objects.filter(type=TRIMMED).order_by("-id").values_list("data", flat=True).first())


def file_trimmed_before(path: Path) -> datetime | None:
    """As log_trimmed_before, of a file."""
    with path.open("rb") as lines:
        told = [orjson.loads(line) for line in lines if TRIMMED.encode() in line]
    return _before(next((event["data"] for event in reversed(told) if event["type"] == TRIMMED), None))


def _before(data: dict[str, str] | None) -> datetime | None:
    return datetime.fromisoformat(data["before"]) if data else None


def unfinished_rows() -> list[Row]:
    """The jobs that wait or run."""
    fields = ("uuid", "workflow__uuid", "owner_id", "state", "epoch", "attempt")
    rows = Job.objects.filter(state__in=UNFINISHED).order_by().values_list(*fields)
    return [
        Row(job=str(job), workflow=str(workflow), user=user, state=JobState(state), epoch=epoch, attempt=attempt)
        for job, workflow, user, state, epoch, attempt in rows.iterator(chunk_size=CHUNK)
    ]


def newest_events(jobs: Collection[tuple[str, str]]) -> dict[str, int]:
    """The id of the newest event of each of these (workflow, job)."""
    asked = list(jobs)
    newest: dict[str, int] = {}
    for start in range(0, len(asked), BATCH):
        part = asked[start : start + BATCH]
        found = Event.objects.filter(workflow_uuid__in={workflow for workflow, _ in part}, job_uuid__in=[job for _, job in part])
        newest |= {str(job): last for job, last in found.order_by().values_list("job_uuid").annotate(last=Max("id"))}
    return newest

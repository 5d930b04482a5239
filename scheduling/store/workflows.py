"""The status of a workflow follows from its jobs; this brings workflows in line after any of their jobs changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from uuid import UUID

from scheduling.live import updates
from scheduling.models import Event
from scheduling.states import FINISHED_WORKFLOW, JobState, WorkflowStatus, workflow_status
from scheduling.store import sets
from scheduling.store.events import SCHEDULER, record, workflow_event


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """A workflow as its row says."""

    pk: int
    uuid: UUID
    owner_id: int
    status: WorkflowStatus
    started_at: datetime | None
    finished_at: datetime | None


def refresh_workflow(workflow: int, now: datetime, *, actor: str) -> Standing:
    """Bring a workflow in line with its jobs, log what changed, tell the browser; how it now stands. The caller holds the owner's row lock."""
    after, told = _refresh([workflow], now, has_started=False, actor=actor, term=0)
    record(told.values())
    return after[workflow]


def record_moves(moved: Sequence[tuple[int, Event]], now: datetime, *, are_starts: bool = False, term: int) -> None:
    """Log moves of jobs, (workflow, event) in order, and bring their workflows in line. Inside the leader's transaction.

    In the log a workflow starts right after the first start of a job, and finishes right after its last end.
    """
    _, told = _refresh((flow for flow, _ in moved), now, has_started=are_starts, actor=SCHEDULER, term=term)
    places: dict[int, int] = {}
    for place, (flow, _) in enumerate(moved):
        if not (are_starts and flow in places):
            places[flow] = place
    after = {place: told[flow] for flow, place in places.items() if flow in told}
    record(event for place, (_, moving) in enumerate(moved) for event in (moving, after.get(place)) if event is not None)


def _refresh(
    workflows: Iterable[int], now: datetime, *, has_started: bool, actor: str, term: int
) -> tuple[dict[int, Standing], dict[int, Event]]:
    """Derive status, started_at and finished_at from the jobs and save what changed: how the workflows stand, and what is to be logged."""
    asked = sorted(set(workflows))
    if not asked:
        return {}, {}
    before, unfinished = _read(asked)
    counts = _final_counts([key for key in before if key not in unfinished])
    after = {key: _derived(row, counts.get(key, {JobState.PENDING: 1}), now, has_started=has_started) for key, row in before.items()}
    changed = [row for key, row in after.items() if row != before[key]]
    if changed:
        _save(changed)
    updates.workflows_changed((row.owner_id, row.uuid) for row in after.values())
    return after, {row.pk: event for row in changed if (event := _told(before[row.pk], row, actor, term))}


def _derived(row: Standing, counts: Mapping[JobState, int], now: datetime, *, has_started: bool) -> Standing:
    started_at = row.started_at or (now if has_started else None)
    status = workflow_status(dict(counts), has_started=started_at is not None)
    finished_at = (row.finished_at or now) if status in FINISHED_WORKFLOW else None
    return replace(row, status=status, started_at=started_at, finished_at=finished_at)


def _told(before: Standing, after: Standing, actor: str, term: int) -> Event | None:
    if before.status == after.status:
        return None
    was_finished, is_finished = before.status in FINISHED_WORKFLOW, after.status in FINISHED_WORKFLOW
    kind = "workflow.finished" if is_finished else "workflow.reopened" if was_finished else "workflow.started"
    return workflow_event(kind, after, actor=actor, term=term, status=after.status.value)


# -- statements


@cache
def _read_sql() -> str:
    """Whether anything is unfinished is found in the index of unfinished jobs, however many have ended."""
    return (
        f"WITH v AS ({sets.table(key='key')}) "  # noqa: S608  (texts of ours)
        "SELECT w.id, w.uuid, w.owner_id, w.status, w.started_at, w.finished_at, "
        "EXISTS (SELECT 1 FROM scheduling_job j WHERE j.workflow_id = w.id AND j.state IN ('PENDING', 'RUNNING')) "
        "FROM v JOIN scheduling_workflow w ON w.id = v.key ORDER BY w.id"
    )


def _read(workflows: Iterable[int]) -> tuple[dict[int, Standing], set[int]]:
    """How these workflows stand, by key, and which of them have unfinished jobs."""
    standing: dict[int, Standing] = {}
    unfinished: set[int] = set()
    for key, uuid, owner, status, started_at, finished_at, is_unfinished in sets.ask(_read_sql(), *sets.keys(workflows)):
        standing[key] = Standing(
            pk=key,
            uuid=sets.as_uuid(uuid),
            owner_id=owner,
            status=WorkflowStatus(status),
            started_at=sets.as_time(started_at),
            finished_at=sets.as_time(finished_at),
        )
        if is_unfinished:
            unfinished.add(key)
    return standing, unfinished


@cache
def _counts_sql() -> str:
    return (
        f"WITH v AS ({sets.table(key='key')}) "  # noqa: S608
        "SELECT j.workflow_id, j.state, COUNT(*) FROM v JOIN scheduling_job j ON j.workflow_id = v.key GROUP BY j.workflow_id, j.state"
    )


def _final_counts(workflows: Collection[int]) -> dict[int, dict[JobState, int]]:
    """Jobs by state, of workflows of which all have ended."""
    counts: dict[int, dict[JobState, int]] = defaultdict(dict, {key: {} for key in workflows})
    for key, state, count in sets.ask(_counts_sql(), *sets.keys(workflows)) if workflows else ():
        counts[key][JobState(state)] = count
    return counts


@cache
def _save_sql() -> str:
    return (
        f"WITH v AS ({sets.table(key='key', status='text', started_at='moment', finished_at='moment')}) "  # noqa: S608
        "UPDATE scheduling_workflow SET status = v.status, started_at = v.started_at, finished_at = v.finished_at "
        "FROM v WHERE scheduling_workflow.id = v.key"
    )


def _save(changed: Iterable[Standing]) -> None:
    sets.change(_save_sql(), *sets.rows((row.pk, row.status.value, row.started_at, row.finished_at) for row in changed))

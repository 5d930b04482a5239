"""The facts that the policy decides from, read inside the leader's transaction. Reads only what is active or next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import OuterRef, QuerySet

from scheduling.engine.policy import Limits, Running, Slot, Snapshot, Waiting
from scheduling.models import UserSlot
from scheduling.store import sets
from scheduling.store.lane_heads import lane_heads
from scheduling.store.users import one_of, runnable_of

_RUNNING = (
    "SELECT j.id, j.owner_id, j.lane, j.epoch, j.queue, j.cancel_requested, w.paused FROM scheduling_job j "
    "JOIN scheduling_workflow w ON w.id = j.workflow_id WHERE j.state = 'RUNNING' ORDER BY j.id"
)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a pass has read."""

    snapshot: Snapshot
    #: Running jobs that a user wants to end.
    unwanted: frozenset[int]


def read_facts(
    limits: Limits,
    now: datetime,
    virtual_times: Mapping[int, float] | None = None,
    yielding: frozenset[int] = frozenset(),
    *,
    waiting: tuple[Waiting, ...],
) -> Facts:
    """Slots, what runs, and the oldest lane heads of active users and of those who wait first (`waiting`), as many as may start."""
    slots = _slots(limits.expected)
    rows = sets.ask(_RUNNING)
    running = tuple(
        Running(job=job, user=user, lane=lane, epoch=epoch, is_paused=bool(is_paused), queue=queue, is_yielding=job in yielding)
        for job, user, lane, epoch, queue, _, is_paused in rows
    )
    # One even when no place is free: who has work and nothing running may take a place.
    wanted = max(1, limits.max_workers - len(running))
    users = _who_may_start(slots, waiting, limits, now)
    heads = lane_heads(users, {job.lane for job in running}, limits.queues, wanted, now)
    snapshot = Snapshot(slots=slots, waiting=waiting, running=running, heads=heads, virtual_times=virtual_times or {})
    return Facts(snapshot=snapshot, unwanted=frozenset(row[0] for row in rows if row[5]))


def _slots(expected: frozenset[str]) -> tuple[Slot, ...]:
    held = sets.asked_once(_held, expected)
    return tuple(Slot(user=user, since=since, can_run=runnable is not None) for user, since, runnable in _timed(held))


def _held(expected: frozenset[str]) -> QuerySet[UserSlot, tuple[int, datetime, int | None]]:
    held = UserSlot.objects.annotate(runnable=one_of(runnable_of(OuterRef("user"), expected)))
    return held.values_list("user_id", "since", "runnable")


def _timed(rows: Sequence[Sequence[object]]) -> list[tuple[int, datetime, int | None]]:
    return [(user, sets.as_time(since), runnable) for user, since, runnable in rows]  # type: ignore[misc]


def _who_may_start(slots: Sequence[Slot], waiting: Sequence[Waiting], limits: Limits, now: datetime) -> list[int]:
    """Active users, and as many of those who wait as may become active in this pass."""
    active = [slot.user for slot in slots if slot.can_run]
    # Who gets the slot of one whose tenure ends starts in the same pass: by the next one, that user's tenure may have ended as well.
    ending = sum(limits.slot_max_s > 0 and (now - slot.since).total_seconds() >= limits.slot_max_s for slot in slots)
    return active + [user.user for user in waiting[: max(0, limits.max_active_users - len(active)) + ending]]

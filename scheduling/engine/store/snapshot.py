"""The facts that the policy decides from, read inside the leader's transaction. Reads only what is active or next."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from django.db.models import OuterRef

from scheduling.engine.policy import Limits, Running, Slot, Snapshot, Waiting
from scheduling.engine.store.heads import lane_heads
from scheduling.engine.store.users import first_in_line, one_of, runnable_of
from scheduling.engine.store.words import RUNNING
from scheduling.models import Job, UserSlot


def read_snapshot(
    limits: Limits, now: datetime, virtual_times: Mapping[int, float] | None = None, yielding: frozenset[int] = frozenset()
) -> Snapshot:
    """Slots, the first of the waiting users, what runs, and the oldest lane heads of all of these users, as many as may start."""
    held = UserSlot.objects.annotate(runnable=one_of(runnable_of(OuterRef("user"), limits.expected)))
    slots = tuple(
        Slot(user=user, since=since, can_run=runnable is not None)
        for user, since, runnable in held.values_list("user_id", "since", "runnable")
    )
    queue = first_in_line(limits.expected, limits.max_active_users)
    waiting = tuple(Waiting(user=user.pk, since=user.waiting_since) for user in queue if user.waiting_since is not None)
    running = tuple(
        Running(job=job, user=user, lane=lane, epoch=epoch, is_paused=is_paused, queue=queue, is_yielding=job in yielding)
        for job, user, lane, epoch, is_paused, queue in Job.objects.filter(state=RUNNING)
        .values_list("id", "owner_id", "lane", "epoch", "workflow__paused", "queue")
        .order_by("id")
    )
    active = [slot.user for slot in slots if slot.can_run]
    # Who gets the slot of one whose tenure ends starts in the same pass: by the next one, that user's tenure may have ended as well.
    ending = sum(limits.slot_max_s > 0 and (now - slot.since).total_seconds() >= limits.slot_max_s for slot in slots)
    users = active + [user.user for user in waiting[: max(0, limits.max_active_users - len(active)) + ending]]
    busy = {job.lane for job in running}
    # One even when no place is free: who has work and nothing running may take a place.
    wanted = max(1, limits.max_workers - len(running))
    heads = tuple(head for user in users for head in lane_heads(user, busy, limits.queues, wanted, now))
    return Snapshot(slots=slots, waiting=waiting, running=running, heads=heads, virtual_times=virtual_times or {})

"""The facts that the policy decides from, read inside the leader's transaction. Reads only what is active or next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.db.models import Exists, OuterRef

from scheduling.engine.policy import Head, Running, Slot, Snapshot, Waiting
from scheduling.models import Job, User, UserSlot
from scheduling.states import UNFINISHED, JobState


def read_snapshot(max_active_users: int, virtual_times: Mapping[int, float]) -> Snapshot:
    """Slots, the first of the waiting users, what runs, and the lane heads of all of these users."""
    unfinished = Job.objects.filter(owner=OuterRef("user"), state__in=UNFINISHED)
    slots = tuple(
        Slot(user=user, since=since, has_unfinished=has)
        for user, since, has in UserSlot.objects.annotate(has=Exists(unfinished)).values_list("user_id", "since", "has")
    )
    queue = User.objects.filter(waiting_since__isnull=False).order_by("waiting_since", "pk")[:max_active_users]
    waiting = tuple(Waiting(user=user.pk, since=user.waiting_since) for user in queue if user.waiting_since is not None)
    running = tuple(
        Running(job=job, user=user, lane=lane)
        for job, user, lane in Job.objects.filter(state=JobState.RUNNING).values_list("id", "owner_id", "lane").order_by("id")
    )
    users = [slot.user for slot in slots] + [user.user for user in waiting]
    return Snapshot(slots=slots, waiting=waiting, running=running, heads=_heads(users), virtual_times=virtual_times)


def _heads(users: Iterable[int]) -> tuple[Head, ...]:
    """The first unfinished job of each lane of these users, where it waits. A paused workflow's jobs hold their place."""
    earlier = Job.objects.filter(owner=OuterRef("owner"), lane=OuterRef("lane"), state__in=UNFINISHED, id__lt=OuterRef("id"))
    rows = (
        Job.objects.filter(owner__in=list(users), state=JobState.PENDING, workflow__paused=False)
        .filter(~Exists(earlier))
        .order_by("id")
        .values_list("id", "owner_id", "lane", "queue")
    )
    return tuple(Head(job=job, user=user, lane=lane, queue=queue) for job, user, lane, queue in rows)

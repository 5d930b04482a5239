"""The facts that the policy decides from, read inside the leader's transaction. Reads only what is active or next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.db.models import Exists, Min, OuterRef

from scheduling.engine.policy import Head, Running, Slot, Snapshot, Waiting
from scheduling.engine.store.users import work_of
from scheduling.engine.store.words import RUNNING, UNFINISHED
from scheduling.models import Job, User, UserSlot
from scheduling.states import JobState


def read_snapshot(max_active_users: int, virtual_times: Mapping[int, float], yielding: frozenset[int] = frozenset()) -> Snapshot:
    """Slots, the first of the waiting users, what runs, and the lane heads of all of these users."""
    slots = tuple(
        Slot(user=user, since=since, has_unfinished=has)
        for user, since, has in UserSlot.objects.annotate(has=Exists(work_of(OuterRef("user")))).values_list("user_id", "since", "has")
    )
    queue = User.objects.filter(waiting_since__isnull=False).order_by("waiting_since", "pk")[:max_active_users]
    waiting = tuple(Waiting(user=user.pk, since=user.waiting_since) for user in queue if user.waiting_since is not None)
    running = tuple(
        Running(job=job, user=user, lane=lane, epoch=epoch, is_paused=is_paused, is_yielding=job in yielding)
        for job, user, lane, epoch, is_paused in Job.objects.filter(state=RUNNING)
        .values_list("id", "owner_id", "lane", "epoch", "workflow__paused")
        .order_by("id")
    )
    users = [slot.user for slot in slots] + [user.user for user in waiting]
    return Snapshot(slots=slots, waiting=waiting, running=running, heads=_heads(users), virtual_times=virtual_times)


def _heads(users: Iterable[int]) -> tuple[Head, ...]:
    """The first unfinished job of each lane of these users, where it waits. A paused workflow's jobs hold their place."""
    # One walk along the index of unfinished jobs; asking for each job whether an earlier one exists takes time by its square.
    lanes = Job.objects.filter(owner__in=list(users), state__in=UNFINISHED).order_by().values("owner", "lane")
    first = lanes.annotate(first=Min("id")).values("first")
    rows = (
        Job.objects.filter(pk__in=first, state=JobState.PENDING, workflow__paused=False)
        .order_by("id")
        .values_list("id", "owner_id", "lane", "queue")
    )
    return tuple(Head(job=job, user=user, lane=lane, queue=queue) for job, user, lane, queue in rows)

"""The leader's moves of slots: a row for each active user, unique by user."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from scheduling import events
from scheduling.engine.lease import Lease
from scheduling.engine.store.log import record, user_event
from scheduling.engine.store.users import has_work, lock_users
from scheduling.models import Event, Job, User, UserSlot


def lock_concerned(ends: Iterable[int], max_active_users: int) -> None:
    """Lock the rows of all users whom a pass may touch: active ones, the first in the queue, owners of jobs that end.

    All at once and in order of key, before any other row, so that the leader and the web process never wait for each other.
    """
    active = UserSlot.objects.values_list("user_id", flat=True)
    queue = User.objects.filter(waiting_since__isnull=False).order_by("waiting_since", "pk").values_list("pk", flat=True)[:max_active_users]
    owners = Job.objects.filter(pk__in=list(ends)).values_list("owner_id", flat=True)
    lock_users({*active, *queue, *owners})


def release_slots(lease: Lease, users: Iterable[int]) -> set[int]:
    """Take the slots of users whose work has ended or is paused; not of one who has submitted more meanwhile. The users released."""
    released = {user for user in lock_users(users) if not has_work(user)}
    UserSlot.objects.filter(user_id__in=released).delete()
    User.objects.filter(pk__in=released).update(waiting_since=None)
    record(user_event("user.released", user, reason="no work that is not paused", term=lease.term) for user in sorted(released))
    if released:
        events.queue_changed()
    return released


def requeue_users(lease: Lease, users: Iterable[int], now: datetime) -> None:
    """Take the slots of users whose tenure has ended; they wait again from now on, and lose nothing else."""
    keys = set(lock_users(users))
    UserSlot.objects.filter(user_id__in=keys).delete()
    User.objects.filter(pk__in=keys).update(waiting_since=now)
    reason = "time with a slot is over while others wait"
    record(user_event("user.requeued", user, reason=reason, term=lease.term, since=now) for user in sorted(keys))
    events.queue_changed()


def admit_users(lease: Lease, users: Collection[int], now: datetime) -> set[int]:
    """Give slots to users who wait; a user who has nothing unfinished any more leaves the queue instead. The users admitted."""
    locked = lock_users(users)
    waiting = [locked[key] for key in users if key in locked and locked[key].waiting_since is not None]
    admitted = {user.pk for user in waiting if has_work(user.pk)}
    UserSlot.objects.bulk_create((UserSlot(user_id=user, since=now, term=lease.term) for user in sorted(admitted)), ignore_conflicts=True)
    record(_leaves_queue(user, lease, now, is_admitted=user.pk in admitted) for user in waiting)
    User.objects.filter(pk__in=list(users)).update(waiting_since=None)
    if users:
        events.queue_changed()
    return admitted


def _leaves_queue(user: User, lease: Lease, now: datetime, *, is_admitted: bool) -> Event:
    if not is_admitted:
        return user_event("user.left_queue", user.pk, reason="no work that is not paused", term=lease.term)
    told: dict[str, Any] = {"since": now, "waited_since": user.waiting_since}
    return user_event("user.admitted", user.pk, reason="longest waiting", term=lease.term, **told)

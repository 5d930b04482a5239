"""The leader's moves of slots: a row for each active user, unique by user. `queues` are those for whose work slots are given."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime

from scheduling import events
from scheduling.engine.lease import Lease
from scheduling.engine.store.log import leader_event, record, user_event
from scheduling.engine.store.users import can_run, first_in_line, has_work, lock_users, work_of
from scheduling.models import Event, Job, User, UserSlot


def expect_queues(lease: Lease, queues: frozenset[str]) -> None:
    """From now on slots are given for the work of these queues."""
    lease.expect(queues)
    record([leader_event("leader.queues", lease.term, queues=sorted(queues))])
    events.queue_changed()


def lock_concerned(ends: Iterable[int], max_active_users: int, queues: Collection[str]) -> None:
    """Lock the rows of all users whom a pass may touch: active ones, the first in the queue, owners of jobs that end.

    All at once and in order of key, before any other row, so that the leader and the web process never wait for each other.
    """
    active = UserSlot.objects.values_list("user_id", flat=True)
    queue = [user.pk for user in first_in_line(queues, max_active_users)]
    owners = Job.objects.filter(pk__in=list(ends)).values_list("owner_id", flat=True)
    lock_users({*active, *queue, *owners})


def release_slots(lease: Lease, users: Iterable[int], queues: Collection[str], now: datetime) -> set[int]:
    """Take the slots of users none of whose work can run; not of one who has submitted more meanwhile. The users released.

    Who still has work that is not paused waits again from now on.
    """
    released = {user for user in lock_users(users) if not can_run(user, queues)}
    waiting = {user for user in released if has_work(user)}
    UserSlot.objects.filter(user_id__in=released).delete()
    User.objects.filter(pk__in=released - waiting).update(waiting_since=None)
    User.objects.filter(pk__in=waiting).update(waiting_since=now)
    record(event for user in sorted(released) for event in _released(lease, user, queues, now, waits=user in waiting))
    if released:
        events.queue_changed()
    return released


def _released(lease: Lease, user: int, queues: Collection[str], now: datetime, *, waits: bool) -> Iterator[Event]:
    if not waits:
        yield user_event("user.released", user, reason="no work that is not paused", term=lease.term)
        return
    missing = work_of(user).exclude(queue__in=queues).order_by("queue").values_list("queue", flat=True).distinct()
    yield user_event("user.released", user, reason="no work that can run", term=lease.term, unserved=list(missing))
    yield user_event("user.waiting", user, reason="work without a slot", term=lease.term, since=now)


def requeue_users(lease: Lease, users: Iterable[int], now: datetime) -> None:
    """Take the slots of users whose tenure has ended; they wait again from now on, and lose nothing else."""
    keys = set(lock_users(users))
    UserSlot.objects.filter(user_id__in=keys).delete()
    User.objects.filter(pk__in=keys).update(waiting_since=now)
    reason = "time with a slot is over while others wait"
    record(user_event("user.requeued", user, reason=reason, term=lease.term, since=now) for user in sorted(keys))
    events.queue_changed()


def admit_users(lease: Lease, users: Collection[int], queues: Collection[str], now: datetime) -> set[int]:
    """Give slots to users who wait; the users admitted.

    Who has nothing unfinished any more leaves the queue instead, and whose work can not run any more goes on waiting.
    """
    locked = lock_users(users)
    waiting = [locked[key] for key in users if key in locked and locked[key].waiting_since is not None]
    admitted = [user for user in waiting if can_run(user.pk, queues)]
    gone = [user for user in waiting if user not in admitted and not has_work(user.pk)]
    keys = sorted(user.pk for user in admitted)
    UserSlot.objects.bulk_create((UserSlot(user_id=key, since=now, term=lease.term) for key in keys), ignore_conflicts=True)
    record(_admitted(user, lease, now) for user in admitted)
    record(user_event("user.left_queue", user.pk, reason="no work that is not paused", term=lease.term) for user in gone)
    User.objects.filter(pk__in=[user.pk for user in (*admitted, *gone)]).update(waiting_since=None)
    if admitted or gone:
        events.queue_changed()
    return set(keys)


def _admitted(user: User, lease: Lease, now: datetime) -> Event:
    return user_event("user.admitted", user.pk, reason="longest waiting", term=lease.term, since=now, waited_since=user.waiting_since)

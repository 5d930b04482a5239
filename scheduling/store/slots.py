"""The leader's moves of slots: a row for each active user, unique by user. `queues` are those for whose work slots are given."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from functools import cache

from django.db import connection
from django.db.models import OuterRef, QuerySet

from scheduling.engine.policy import Waiting
from scheduling.live import updates
from scheduling.models import Event, Job, User, UserSlot
from scheduling.store import sets
from scheduling.store.events import leader_event, record, user_event
from scheduling.store.lease import Lease
from scheduling.store.users import first_in_line, lock_users, one_of, runnable_of, unpaused_work, work_of


def expect_queues(lease: Lease, queues: frozenset[str]) -> None:
    """From now on slots are given for the work of these queues."""
    lease.expect(queues)
    record([leader_event("leader.queues", lease.term, queues=sorted(queues))])
    updates.queue_changed()


@cache
def _lock_sql() -> str:
    """The owners of jobs that end, those who have a slot, and those named."""
    lock = " FOR UPDATE" if connection.features.has_select_for_update else ""
    return (
        f"WITH v AS ({sets.table(job='key', person='key')}) "  # noqa: S608  (texts of ours)
        "SELECT u.id, u.waiting_since FROM scheduling_user u WHERE u.id IN (SELECT s.user_id FROM scheduling_userslot s UNION SELECT v.person FROM v "
        f"UNION SELECT j.owner_id FROM v JOIN scheduling_job j ON j.id = v.job) ORDER BY u.id{lock}"
    )


def lock_concerned(ends: Iterable[int], max_active_users: int, queues: frozenset[str]) -> tuple[Waiting, ...]:
    """Lock the rows of all users whom a pass may touch: active ones, the first in the queue, owners of jobs that end.

    All at once and in order of key, before any other row, so that the leader and the web process never wait for each other. Gives
    the first in the queue, as their locked rows say; whether their work can still run is asked again when they are admitted.
    """
    first = [user for user, _ in first_in_line(queues, max_active_users)]
    locked = dict(sets.ask(_lock_sql(), *sets.rows([*((None, user) for user in first), *((job, None) for job in ends)])))
    return tuple(Waiting(user=user, since=since) for user in first if (since := sets.as_time(locked.get(user))))


def release_slots(lease: Lease, users: Iterable[int], queues: Collection[str], now: datetime) -> set[int]:
    """Take the slots of users none of whose work can run; not of one who has submitted more meanwhile. The users released.

    Who still has work that is not paused waits again from now on.
    """
    locked = set(lock_users(users))
    released = locked - _who_can_run(locked, queues)
    waiting = _who_has_work(released)
    UserSlot.objects.filter(user_id__in=released).delete()
    User.objects.filter(pk__in=released - waiting).update(waiting_since=None)
    User.objects.filter(pk__in=waiting).update(waiting_since=now)
    unserved = _unserved(waiting, queues)
    record(event for user in sorted(released) for event in _released(lease, user, unserved.get(user), now))
    if released:
        updates.queue_changed()
    return released


def _released(lease: Lease, user: int, unserved: list[str] | None, now: datetime) -> Iterator[Event]:
    """`unserved`: the queues that the work of a user who waits again would need and nobody serves; None of one who has no work."""
    if unserved is None:
        yield user_event("user.released", user, reason="no work that is not paused", term=lease.term)
        return
    yield user_event("user.released", user, reason="no work that can run", term=lease.term, unserved=unserved)
    yield user_event("user.waiting", user, reason="work without a slot", term=lease.term, since=now)


def _who_can_run(users: Collection[int], queues: Collection[str]) -> set[int]:
    """Those of these users of whose work any can run."""
    return {user for (user,) in sets.asked_once(_having_runnable, frozenset(queues), about=users)} if users else set()


def _who_has_work(users: Collection[int]) -> set[int]:
    """Those of these users who have any work that is not paused."""
    return {user for (user,) in sets.asked_once(_having_work, about=users)} if users else set()


def _having_runnable(queues: frozenset[str]) -> QuerySet[User, tuple[int]]:
    return _having(runnable_of(OuterRef("pk"), queues))


def _having_work() -> QuerySet[User, tuple[int]]:
    return _having(work_of(OuterRef("pk")))


def _having(work: QuerySet[Job]) -> QuerySet[User, tuple[int]]:
    return User.objects.filter(pk__in=sets.given()).alias(some=one_of(work)).filter(some__isnull=False).values_list("pk")


def _unserved(users: Collection[int], queues: Collection[str]) -> dict[int, list[str]]:
    """The queues that the work of these users would need and that are not among those given."""
    missing: dict[int, list[str]] = {user: [] for user in users}
    if not users:
        return missing
    rows = unpaused_work().filter(owner__in=users).exclude(queue__in=queues).order_by("owner_id", "queue")
    for user, queue in rows.values_list("owner_id", "queue").distinct():
        missing[user].append(queue)
    return missing


def requeue_users(lease: Lease, users: Iterable[int], now: datetime) -> None:
    """Take the slots of users whose tenure has ended; they wait again from now on, and lose nothing else."""
    keys = set(lock_users(users))
    UserSlot.objects.filter(user_id__in=keys).delete()
    User.objects.filter(pk__in=keys).update(waiting_since=now)
    reason = "time with a slot is over while others wait"
    record(user_event("user.requeued", user, reason=reason, term=lease.term, since=now) for user in sorted(keys))
    updates.queue_changed()


@cache
def _admit_sql() -> str:
    return (
        f"WITH v AS ({sets.table(person='key', since='moment', term='key')}) "  # noqa: S608  (texts of ours)
        "INSERT INTO scheduling_userslot (user_id, since, term) SELECT v.person, v.since, v.term FROM v WHERE true ON CONFLICT DO NOTHING"
    )


def admit_users(lease: Lease, users: Collection[int], queues: Collection[str], now: datetime) -> set[int]:
    """Give slots to users who wait; the users admitted.

    Who has nothing unfinished any more leaves the queue instead, and whose work can not run any more goes on waiting.
    """
    locked = lock_users(users)
    waiting = [locked[key] for key in users if key in locked and locked[key].waiting_since is not None]
    able = _who_can_run({user.pk for user in waiting}, queues)
    busy = _who_has_work({user.pk for user in waiting} - able)
    admitted = [user for user in waiting if user.pk in able]
    gone = [user for user in waiting if user.pk not in able | busy]
    keys = sorted(user.pk for user in admitted)
    sets.change(_admit_sql(), *sets.rows((key, now, lease.term) for key in keys))
    record(_admitted(user, lease, now) for user in admitted)
    record(user_event("user.left_queue", user.pk, reason="no work that is not paused", term=lease.term) for user in gone)
    User.objects.filter(pk__in=[user.pk for user in (*admitted, *gone)]).update(waiting_since=None)
    if admitted or gone:
        updates.queue_changed()
    return set(keys)


def _admitted(user: User, lease: Lease, now: datetime) -> Event:
    return user_event("user.admitted", user.pk, reason="longest waiting", term=lease.term, since=now, waited_since=user.waiting_since)

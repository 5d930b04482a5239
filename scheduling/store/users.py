"""User rows: locked first by whatever adds or ends a user's unfinished work, or changes the slots."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet, Subquery

from scheduling.models import Dependency, Event, Job, SchedulerLease, User, UserSlot, Workflow
from scheduling.states import cpu_alone
from scheduling.store import sets
from scheduling.store.events import record, user_event
from scheduling.store.sql_words import UNFINISHED


def lock_users(keys: Iterable[int]) -> dict[int, User]:
    """Lock these users' rows, in order of key so that two lockers never wait for each other. Inside a transaction."""
    return {user.pk: user for user in sets.models(User, set(keys), are_locked=True)}


def has_work(user_key: int) -> bool:
    """Whether the user has a PENDING or RUNNING job in a workflow that is not paused: then the user wants a slot."""
    return work_of(user_key).exists()


def work_of(owner: Any) -> QuerySet[Job]:
    """The unfinished jobs of a user (a key or an OuterRef) whose workflow is not paused.

    Every lane has a name; asking for one makes SQLite take the index of unfinished jobs, not that of all the user ever had.
    """
    return unpaused_work().filter(owner_id=owner)


def unpaused_work() -> QuerySet[Job]:
    """As work_of, of all users.

    A value and not EXISTS: PostgreSQL would make a join of it, for which it may read all unfinished jobs in order of their workflows.
    """
    paused = one_of(Workflow.objects.filter(pk=OuterRef("workflow_id"), paused=True))
    return Job.objects.alias(paused_in=paused).filter(paused_in__isnull=True, lane__gt="", state__in=UNFINISHED)


def runnable_of(owner: Any, queues: Collection[str]) -> QuerySet[Job]:
    """Those of `work_of` that are of one of these queues and wait for no other job, neither in their lane nor as a dependency.

    While anything is unfinished, something waits for no other job (services.workflows lets no circle in); so none of these means
    that all that is left is paused, needs a queue that nobody serves, or waits for such jobs.
    """
    ahead = Job.objects.filter(owner_id=OuterRef("owner_id"), lane=OuterRef("lane"), state__in=UNFINISHED, pk__lt=OuterRef("pk"))
    # A value and not a join, which PostgreSQL may answer by reading all unfinished jobs for each row.
    needed = Subquery(Job.objects.filter(pk=OuterRef("needs_id")).values("state"))
    needs = Dependency.objects.filter(job=OuterRef("pk")).alias(needed=needed).filter(needed__in=UNFINISHED)
    return work_of(owner).filter(~Exists(ahead), ~Exists(needs), queue__in=sorted(queues))


def one_of(rows: QuerySet[Any]) -> Subquery:
    """The key of one of these rows, null when there is none: a value and not EXISTS, for which PostgreSQL may read those of all users."""
    return Subquery(rows.order_by().values("pk")[:1])


def expected_queues() -> list[str]:
    """Queues for whose work slots are given, as the leader last said."""
    return SchedulerLease.objects.values_list("expected_queues", flat=True).first() or cpu_alone()


def in_line(queues: Collection[str]) -> QuerySet[User]:
    """Users who wait for a slot and have work that can run, the longest waiting first; who has none is passed over meanwhile."""
    waiting = User.objects.filter(waiting_since__isnull=False).alias(runnable=one_of(runnable_of(OuterRef("pk"), queues)))
    return waiting.filter(runnable__isnull=False).order_by("waiting_since", "pk")


def first_in_line(queues: frozenset[str], at_most: int) -> list[tuple[int, datetime]]:
    """The first of them, and since when they wait. The leader looks often, and mostly nobody waits: then the index is empty."""
    return [(user, since) for user, at in sets.asked_once(_first_in_line, queues, at_most) if (since := sets.as_time(at))]


def _first_in_line(queues: frozenset[str], at_most: int) -> QuerySet[User, tuple[int, datetime | None]]:
    return in_line(queues).values_list("pk", "waiting_since")[:at_most]


def refresh_waiting(user: User, now: datetime, *, actor: str, is_new: bool = False) -> bool:
    """Bring `waiting_since` of a locked user in line with the facts; True when it changed.

    Set when the user has work, no slot, and is not waiting yet; cleared when there is no work (all ended or paused). It is never
    moved, also not while none of the work can run: that is the leader's to know. `is_new`: there certainly is work, just inserted.
    """
    since = user.waiting_since
    if not is_new and not has_work(user.pk):
        since = None
    elif since is None and not UserSlot.objects.filter(user=user).exists():
        since = now
    if since == user.waiting_since:
        return False
    user.waiting_since = since
    user.save(update_fields=["waiting_since"])
    record([_queue_event(user, actor)])
    return True


def _queue_event(user: User, actor: str) -> Event:
    if user.waiting_since is None:
        return user_event("user.left_queue", user.pk, actor=actor, reason="no work that is not paused")
    return user_event("user.waiting", user.pk, actor=actor, reason="work without a slot", since=user.waiting_since)

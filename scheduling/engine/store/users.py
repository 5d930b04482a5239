"""User rows: locked first by whatever adds or ends a user's unfinished work, or changes the slots."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet

from scheduling.engine.store.log import record, user_event
from scheduling.engine.store.words import UNFINISHED
from scheduling.models import Event, Job, User, UserSlot, Workflow


def lock_users(keys: Iterable[int]) -> dict[int, User]:
    """Lock these users' rows, in order of key so that two lockers never wait for each other. Inside a transaction."""
    return {user.pk: user for user in User.objects.select_for_update().filter(pk__in=set(keys)).order_by("pk")}


def has_work(user_key: int) -> bool:
    """Whether the user has a PENDING or RUNNING job in a workflow that is not paused."""
    return work_of(user_key).exists()


def work_of(owner: Any) -> QuerySet[Job]:
    """The unfinished jobs of a user (a key or an OuterRef) whose workflow is not paused.

    Every lane has a name; asking for one makes SQLite take the index of unfinished jobs, not that of all the user ever had.
    """
    return Job.objects.filter(~in_paused_workflow(), owner_id=owner, lane__gt="", state__in=UNFINISHED)


def in_paused_workflow() -> Exists:
    """Whether the workflow of a job is paused: a look into a short index rather than a join with all workflows."""
    return Exists(Workflow.objects.filter(pk=OuterRef("workflow_id"), paused=True))


def refresh_waiting(user: User, now: datetime, *, actor: str) -> bool:
    """Bring `waiting_since` of a locked user in line with the facts; True when it changed.

    Set when the user has work, no slot, and is not waiting yet; cleared when there is no work (all ended or paused). It is never moved.
    """
    since = user.waiting_since
    if not has_work(user.pk):
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

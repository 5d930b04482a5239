"""The lane heads that may start next: the first waiting job of each lane that runs nothing, where nothing but a place holds it back."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.db.models import OuterRef, QuerySet, Subquery

from scheduling.engine.policy import Head
from scheduling.engine.store.users import in_paused_workflow
from scheduling.engine.store.words import PENDING, UNFINISHED
from scheduling.models import Dependency, Job

CHUNK = 64
#: Lanes that the database is asked to leave out; beyond them they are left out here.
LEFT_OUT = 200


def lane_heads(user: int, busy: Collection[str], queues: Collection[str], at_most: int, now: datetime) -> list[Head]:
    """The oldest lane heads of a user that may start, at most so many. In the lanes `busy` something runs; `queues` have a worker.

    One walk along the index of waiting jobs, in order of submission. Lanes already seen are left out of the next chunk, so
    that a long lane costs a step in the index and not a row. A job of a paused workflow, one that is to be tried again later, one
    that waits for another job and one whose queue no worker serves hold their place: their lane has no head.
    """
    heads: list[Head] = []
    seen = set(busy)
    last, is_over = 0, False
    while len(heads) < at_most and not is_over:
        rows = list(_waiting(user, last, list(seen)[:LEFT_OUT]))
        is_over = len(rows) < CHUNK
        for last, lane, queue, is_paused, retry_at, needs in rows:
            if lane not in seen:
                seen.add(lane)
                is_later = retry_at is not None and retry_at > now
                if queue in queues and needs is None and not (is_paused or is_later):
                    heads.append(Head(job=last, user=user, lane=lane, queue=queue))
    return heads[:at_most]


def _waiting(user: int, after: int, left_out: Collection[str]) -> QuerySet[Job, tuple[int, str, str, bool, datetime | None, int | None]]:
    needs = Dependency.objects.filter(job=OuterRef("pk"), needs__state__in=UNFINISHED)
    jobs = Job.objects.filter(owner_id=user, state=PENDING, pk__gt=after).exclude(lane__in=left_out)
    # A value and not EXISTS, which PostgreSQL may answer by reading all dependencies of all users into a table of hashes.
    held = jobs.annotate(is_paused=in_paused_workflow(), needed=Subquery(needs.values("needs")[:1]))
    return held.order_by("pk").values_list("pk", "lane", "queue", "is_paused", "retry_at", "needed")[:CHUNK]

"""The lane heads that may start next: the first waiting job of each lane that runs nothing, where nothing but a place holds it back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from scheduling.engine.policy import Head
from scheduling.store import sets

#: Waiting jobs of a user that are looked at first: twice as many as are wanted, at least these; then four times as many each time.
CHUNK = 8


class _Walk:
    """Along one user's waiting jobs, in order of submission."""

    def __init__(self, user: int, busy: Collection[str]) -> None:
        self.user, self.heads, self.last, self.is_over = user, list[Head](), 0, False
        #: Lanes that have no further head.
        self.seen = set(busy)

    def take(self, rows: Sequence[Sequence[Any]], queues: Collection[str], now: datetime, chunk: int) -> None:
        """The next rows. A job that is held back holds its place: its lane has no head."""
        self.is_over = len(rows) < chunk
        for job, lane, queue, retry_at, is_paused, needs in rows:
            self.last = job
            if lane not in self.seen:
                self.seen.add(lane)
                is_later = retry_at is not None and (sets.as_time(retry_at) or now) > now
                if queue in queues and needs is None and not is_paused and not is_later:
                    self.heads.append(Head(job=job, user=self.user, lane=lane, queue=queue))


def lane_heads(users: Iterable[int], busy: Collection[str], queues: Collection[str], at_most: int, now: datetime) -> tuple[Head, ...]:
    """The oldest lane heads of each of these users that may start, at most so many a user. In the lanes `busy` something runs.

    One walk along the index of waiting jobs, in order of submission, for all users at once. Lanes already seen are left out of the next
    chunk, so that a long lane costs a step in the index and not a row. A job of a paused workflow, one that is to be tried again later,
    one that waits for another job and one whose queue no worker serves (it is not among `queues`) hold their place: their lane has no head.
    """
    walks = [_Walk(user, busy) for user in users]
    chunk = max(CHUNK, 2 * at_most)
    while walking := [walk for walk in walks if len(walk.heads) < at_most and not walk.is_over]:
        rows: dict[int, list[Sequence[Any]]] = {walk.user: [] for walk in walking}
        for user, *row in _waiting(walking, chunk):
            rows[user].append(row)
        for walk in walking:
            walk.take(rows[walk.user], queues, now, chunk)
        chunk *= 4
    return tuple(head for walk in walks for head in walk.heads[:at_most])


def _waiting(walks: Sequence[_Walk], chunk: int) -> list[tuple[Any, ...]]:
    left_out = [(walk.user, lane) for walk in walks for lane in walk.seen]
    places = [value for walk in walks for value in (walk.user, walk.last, walk.user, chunk)]
    return sets.ask(_waiting_sql(len(walks)), *sets.rows(left_out), *places)


@cache
def _waiting_sql(users: int) -> str:
    """So many walks in one statement.

    Values, not EXISTS and not a join, for what a job waits for: PostgreSQL may answer those by reading all dependencies of all users, or
    all unfinished jobs, once for each row.
    """
    paused = "EXISTS (SELECT 1 FROM scheduling_workflow w WHERE w.id = j.workflow_id AND w.paused)"
    needed = "(SELECT n.state FROM scheduling_job n WHERE n.id = d.needs_id)"
    needs = f"(SELECT d.id FROM scheduling_dependency d WHERE d.job_id = j.id AND {needed} IN ('PENDING', 'RUNNING') LIMIT 1)"  # noqa: S608
    walk = (
        f"SELECT * FROM (SELECT j.owner_id, j.id, j.lane, j.queue, j.retry_at, {paused}, {needs} FROM scheduling_job j "  # noqa: S608
        "WHERE j.owner_id = %s AND j.state = 'PENDING' AND j.id > %s AND j.lane NOT IN (SELECT lane FROM v WHERE owner = %s) "
        "ORDER BY j.id LIMIT %s) AS walk"
    )
    return f"WITH v AS ({sets.table(owner='key', lane='text')}) " + " UNION ALL ".join([walk] * users)

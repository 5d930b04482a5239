"""When a running job will end and a waiting user's work will start, from the tiles a second that the leader has measured.

An estimate is a moment, not a duration: while nothing changes it stays the same, whenever it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Count, F, Q, QuerySet, Sum

from scheduling.models import Job, UserSlot
from scheduling.states import JobState
from scheduling.store import sets
from scheduling.store.users import expected_queues, in_line, unpaused_work

#: Moments are rounded up to the next multiple: (nearer than, step), both in seconds.
_STEPS = ((60.0, 5), (600.0, 15), (math.inf, 60))
#: What is further away is no estimate.
_FAR_S = 365 * 86_400.0


def job_end(job: Job, now: datetime) -> datetime | None:
    """When a RUNNING job's last tile will be finished: now + remaining tiles ÷ its measured tiles a second.

    None for a job that does not run, is not planned, has no tile left (its results are being written), or was not yet measured.
    """
    if job.state != JobState.RUNNING or job.tiles_total is None or job.tiles_processed >= job.tiles_total:
        return None
    return _after(now, job.tiles_total - job.tiles_processed, job.tiles_per_s)


@dataclass(frozen=True, kw_only=True)
class Holding:
    """A slot, and the unfinished work of its user that is not paused and for whose queue slots are given."""

    since: datetime
    #: Tiles not yet processed; None while a job is not planned.
    tiles: int | None
    #: Measured over all of the user's running jobs; None when nothing was measured.
    tiles_per_s: float | None


def line(queues: Collection[str]) -> list[int]:
    """The keys of users who wait for a slot and have work that can run, the longest waiting first; `queues`: those for which slots are given."""
    return [key for (key,) in sets.asked_once(_line, tuple(queues))]


def _line(queues: tuple[str, ...]) -> QuerySet[Any, Any]:
    return in_line(queues).values_list("pk")


def user_starts(now: datetime, *, max_active_users: int, slot_max_s: float) -> dict[int, datetime]:
    """When users who wait for a slot will probably get one, by user key; those of whom nothing is known are left out."""
    expected = expected_queues()
    queue = line(expected)
    if not queue:
        return {}
    starts = slots_free(_holdings(expected), now, max_active_users=max_active_users, slot_max_s=slot_max_s)
    return dict(zip(queue, starts, strict=False))


def slots_free(holdings: Sequence[Holding], now: datetime, *, max_active_users: int, slot_max_s: float) -> list[datetime]:
    """The times at which slots will come free, earliest first: the k-th is that at which position k of the queue starts.

    A slot that nobody holds is free now. One that is held comes free with the end of its user's work, now + remaining tiles ÷
    the tiles a second of all of the user's running jobs (which is what the user's share of the processes gives), or with the
    user's tenure, since + `slot_max_s` (0: no tenure), whichever comes first. A slot of which neither is known is left out.
    """
    free = [now] * (max_active_users - len(holdings))
    held = [min(known) for holding in holdings if (known := list(_ends(holding, now, slot_max_s)))]
    return sorted(free + held)


def _ends(holding: Holding, now: datetime, slot_max_s: float) -> Iterable[datetime]:
    if holding.tiles is not None and (end := _after(now, holding.tiles, holding.tiles_per_s)):
        yield end
    if slot_max_s > 0:
        yield _on_grid(max(now, holding.since + timedelta(seconds=slot_max_s)), now)


def _holdings(expected: Collection[str]) -> list[Holding]:
    slots = dict(UserSlot.objects.values_list("user_id", "since"))
    # Every lane has a name; asking for one makes SQLite take the index of unfinished jobs.
    unfinished = unpaused_work().filter(owner_id__in=slots)
    jobs = unfinished.filter(queue__in=expected)
    work = {
        owner: (None if unplanned else tiles, tiles_per_s)
        for owner, tiles, unplanned, tiles_per_s in jobs.order_by()
        .values_list("owner_id")
        .annotate(
            tiles=Sum(F("tiles_total") - F("tiles_processed")),
            unplanned=Count("id", filter=Q(tiles_total=None)),
            pace=Sum("tiles_per_s", filter=Q(state=JobState.RUNNING)),
        )
    }
    return [
        Holding(since=since, tiles=tiles, tiles_per_s=tiles_per_s)
        for user, since in slots.items()
        for tiles, tiles_per_s in [work.get(user, (0, None))]
    ]


def _after(now: datetime, tiles: int, tiles_per_s: float | None) -> datetime | None:
    """When so many tiles will be finished; None when it cannot be told."""
    if tiles <= 0:
        return _on_grid(now, now)
    if not tiles_per_s or tiles / tiles_per_s > _FAR_S:
        return None
    return _on_grid(now + timedelta(seconds=tiles / tiles_per_s), now)


def _on_grid(moment: datetime, now: datetime) -> datetime:
    """Rounded up, the coarser the further away: measuring a little more or less does not make it twitch."""
    distance_s = (moment - now).total_seconds()
    step_s = next(step for limit, step in _STEPS if distance_s < limit)
    return datetime.fromtimestamp(math.ceil(moment.timestamp() / step_s) * step_s, UTC)

"""How soon work went on after each fault. Pure: computed from samples of the database.

A sample is the sum of all finished tiles and the id of the leader's last event (elections and resignations aside: they are no
work; events of the web process do not count either, since people submit while nobody schedules). Work has *resumed* at the first
sample that shows more than the one before it, where that one was taken after the fault too: so an outcome that was on its way
when the fault came is not taken for recovery, and the time is at most one sampling interval too long.

The time counts from the fault; for a process that is stopped, from the beginning of the stop; for what there is only one of
(Redis, PostgreSQL, the results folder, the web server) from its return. Each job that was RUNNING at that moment is followed as
well: `all_resumed_s` is the time until the last of them has more tiles, another claim, or has ended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One look at the database. `at` is of the monotonic clock; `running` is job → (epoch, finished tiles)."""

    at: float
    tiles: int
    event: int
    running: Mapping[int, tuple[int, int]] = field(default_factory=dict)


def resumed_s(since: float, samples: Sequence[Sample]) -> float | None:
    """Seconds from `since` to the first progress after it; None when there was none."""
    later = [sample for sample in samples if sample.at >= since]
    for before, sample in pairwise(later):
        if sample.tiles > before.tiles or sample.event > before.event:
            return sample.at - since
    return None


def all_resumed_s(since: float, samples: Sequence[Sample]) -> float | None:
    """Seconds from `since` until every job that ran then has gone on; 0 when none ran, None when one never did."""
    start = next((i for i, sample in enumerate(samples) if sample.at >= since), len(samples))
    if start == len(samples):
        return None
    waiting, last_s = dict(samples[start].running), 0.0
    for sample in samples[start + 1 :]:
        for job in [job for job, mark in waiting.items() if sample.running.get(job) != mark]:
            del waiting[job]
            last_s = sample.at - since
        if not waiting:
            return last_s
    return None if waiting else last_s


def standstills(samples: Sequence[Sample], least_s: float) -> list[tuple[float, float]]:
    """When nothing went on for at least so long: (beginning, seconds), in order."""
    marks = [samples[0].at] if samples else []
    marks += [now.at for before, now in pairwise(samples) if now.tiles > before.tiles or now.event > before.event]
    marks += [samples[-1].at] if samples else []
    return [(since, until - since) for since, until in pairwise(marks) if until - since >= least_s]


def percentile(values: Sequence[float], percent: float) -> float:
    """By nearest rank; NaN of nothing."""
    return sorted(values)[max(0, math.ceil(percent / 100 * len(values)) - 1)] if values else math.nan

"""What the leader measures of itself and its workers between two samples. It counts and times; `store.samples` writes."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Mapping
from typing import Any

from django.utils import timezone
from redis import RedisError

from scheduling.engine.ledger import Ledger
from scheduling.leader.pool import Pool, PoolUnavailable
from scheduling.protocol.inbox import Inbox
from scheduling.store import samples
from scheduling.store.lease import Lease

logger = logging.getLogger(__name__)

SAMPLE_EVERY_S = 15.0
#: Counters of the engine that a sample shows the increase of.
COUNTED = ("stale_outcomes", "lost_bundles")


class Sampler:
    """Told of every pass; takes a sample when it is time."""

    def __init__(self, lease: Lease, inbox: Inbox, pool: Pool, every_s: float = SAMPLE_EVERY_S) -> None:
        self._lease, self._inbox, self._pool, self._every_s = lease, inbox, pool, every_s
        #: When the interval began; None before the first pass.
        self._since: float | None = None
        self._passes_s: list[float] = []
        self._tiles = 0
        self._worker_s: dict[str, float] = {}
        self._event = 0
        self._counters: Mapping[str, float] | None = None

    def passed(self, ledger: Ledger, began: float) -> None:
        """A pass that began at this time of the monotonic clock has ended. Raises Deposed."""
        now = time.monotonic()
        self._passes_s.append(now - began)
        if self._since is None:
            self._event, self._counters = samples.last_event(), self._counters_now()
            self._begin(ledger, now)
        elif now - self._since >= self._every_s:
            samples.write_sample(self._lease, self._measured(ledger, now - self._since))
            self._begin(ledger, now)

    def _begin(self, ledger: Ledger, now: float) -> None:
        self._since, self._tiles, self._worker_s = now, ledger.tiles, dict(ledger.worker_s)
        self._passes_s.clear()

    def _measured(self, ledger: Ledger, interval_s: float) -> dict[str, Any]:
        """All figures of a sample; those of a part that is away are null."""
        newest = samples.last_event()
        ended = samples.ended_between(self._event, newest)
        self._event = newest
        spent = {queue: round(seconds - self._worker_s.get(queue, 0.0), 3) for queue, seconds in ledger.worker_s.items()}
        return {
            "interval_s": round(interval_s, 3),
            **samples.counted(timezone.now()),
            "ended": ended,
            **self._workers(),
            "bundles": ledger.under_way,
            "tiles_per_s": round((ledger.tiles - self._tiles) / interval_s, 3),
            "worker_s": spent,
            "pass_ms": round(1000 * statistics.median(self._passes_s), 3),
            **self._increase(),
        }

    def _workers(self) -> dict[str, int | None]:
        """Live workers that take work, their processes, and how many of these are at work."""
        try:
            live = [worker for worker in self._pool.workers() if worker.is_taking_work]
        except PoolUnavailable:
            return {"workers": None, "processes": None, "busy": None}
        busy = sum(min(worker.processes, len(worker.bundles)) for worker in live)
        return {"workers": len(live), "processes": sum(worker.processes for worker in live), "busy": busy}

    def _increase(self) -> dict[str, int | None]:
        """By how much the counters have gone up. Redis may have been restarted empty meanwhile."""
        before, now = self._counters, self._counters_now()
        self._counters = now
        if now is None:
            return dict.fromkeys(COUNTED)
        known = before or {}
        return {name: int(now.get(name, 0.0) - min(known.get(name, 0.0), now.get(name, 0.0))) for name in COUNTED}

    def _counters_now(self) -> Mapping[str, float] | None:
        try:
            return self._inbox.counters()
        except RedisError as error:
            logger.warning("the counters are not to be had: %s", error, extra={"action": "counters_missing"})
            return None

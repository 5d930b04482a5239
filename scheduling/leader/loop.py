"""The scheduler's loop: take outcomes, settle them, reconcile with the database, dispatch. One step is `run_once`.

Decisions are recomputed from facts on every pass; messages only wake the loop, which also wakes by itself each second.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter
from typing import Any
from uuid import UUID

from django.db import close_old_connections
from django.utils import timezone
from redis import RedisError

from scheduling.engine.config import EngineConfig
from scheduling.engine.entry import Claimed, Entry
from scheduling.engine.ledger import Dispatch, Ledger
from scheduling.engine.policy import ExpectedQueues, Limits
from scheduling.leader.pool import Pool, PoolUnavailable
from scheduling.leader.reporting import ProgressReporter
from scheduling.leader.sampling import Sampler
from scheduling.live import updates
from scheduling.protocol.inbox import Inbox
from scheduling.protocol.messages import Kind, Outcome, Parcel
from scheduling.store import trash
from scheduling.store.claims import take_over_jobs
from scheduling.store.ends import save_progress
from scheduling.store.events import leader_event, record
from scheduling.store.lease import Lease
from scheduling.store.reconcile import Held, reconcile
from scheduling.store.virtual_times import load_shares, save_shares
from scheduling.tilestore.disk_errors import make_roots, missing_root, refusal_of

logger = logging.getLogger(__name__)

#: Soon enough for what the reporter had to hold back.
SOON_S = 0.1
REDIS_AWAY_S = 0.5
#: A pass costs nearly the same for one end as for a hundred: soon after one, what comes in is gathered for the next.
GATHER_S = 0.005
#: Sent in one round trip.
PARCELS_AT_ONCE = 200


class SchedulerLoop:
    """The leader of one term at work."""

    def __init__(self, *, config: EngineConfig, lease: Lease, inbox: Inbox, pool: Pool) -> None:
        self._config, self._lease, self._inbox, self._pool = config, lease, inbox, pool
        self._ledger = Ledger(config, lease.term)
        self._reporter = ProgressReporter(config)
        self._sampler = Sampler(lease, inbox, pool)
        self._processes: dict[str, int] = {}
        self._expected = ExpectedQueues((), 0.0, config.queue_patience_s)
        self._redis_run: str | None = None
        self._counted: Counter[str] = Counter()
        self._ticked_at = self._passed_at = float("-inf")
        #: When the next job that waits for its retry may be claimed again.
        self._retry_at = float("inf")
        self._is_dirty = True

    def begin(self) -> bool:
        """Carry on what ran under earlier leaders; always True. Raises Deposed."""
        make_roots(self._config.data_dir)
        with self._lease.transaction():
            _, expected = self._lease.standing()
            limits = {"max_workers": self._config.max_workers, "max_active_users": self._config.max_active_users}
            told = {"holder": self._lease.holder, **limits, "slot_max_s": self._config.slot_max_s, "queues": sorted(expected)}
            record([leader_event("leader.elected", self._lease.term, **told)])
            taken = take_over_jobs(self._lease, timezone.now())
            shares = load_shares()
        # What earlier leaders expected has the whole time to be heard of again.
        self._expected = ExpectedQueues(expected, time.monotonic(), self._config.queue_patience_s)
        self._ledger.begin(taken, shares, time.monotonic())
        for claimed in taken:
            self._prepare(claimed)
        logger.info("leading", extra={"action": "leading", "term": self._lease.term, "taken_over": len(taken)})
        return True

    def run_once(self, timeout_s: float | None = None) -> bool:
        """One step; waits at most `timeout_s` (None: until the next tick) for something to do. Whether there was something.

        Raises Deposed when another scheduler leads.
        """
        outcomes, is_poked = self._listen(self._patience() if timeout_s is None else timeout_s)
        if outcomes and (rest_s := self._passed_at + GATHER_S - time.monotonic()) > 0:
            time.sleep(rest_s)
            more, is_poked_too = self._listen(0)
            outcomes, is_poked = outcomes + more, is_poked or is_poked_too
        now = time.monotonic()
        for outcome in outcomes:
            self._ledger.settle(outcome, now)
        if is_tick := now - self._ticked_at >= self._config.tick_s:
            self._ticked_at = now
            self._look_around(now)
        self._ledger.look(now)
        if is_due := now >= self._retry_at:
            self._retry_at = float("inf")
        if is_poked or is_due or is_tick or self._is_dirty or self._lease.is_due or self._ledger.ends():
            self._is_dirty = self._reconcile()
            self._passed_at = time.monotonic()
        # Work first: whoever waits for a tile waits longer than who looks on.
        sent = self._dispatch(time.monotonic())
        self._report(time.monotonic())
        self._sampler.passed(self._ledger, now)
        return bool(outcomes or is_poked or self._is_dirty or sent)

    def _listen(self, timeout_s: float) -> tuple[list[Outcome], bool]:
        try:
            found, is_poked = self._inbox.take(self._lease.term, timeout_s=timeout_s)
        except RedisError as error:
            logger.warning("Redis is away: %s", error, extra={"action": "redis_away"})
            time.sleep(REDIS_AWAY_S if timeout_s else 0)
            return [], False
        return [outcome for data in found if (outcome := self._read(data))], is_poked

    def _read(self, data: dict[str, Any]) -> Outcome | None:
        """None for what is no outcome: of a worker of another version, say. Its bundle is found to be lost."""
        try:
            return Outcome.from_json(data)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            logger.warning("an outcome cannot be read: %r", error, extra={"action": "outcome_unreadable"})
            self._count(unreadable_outcomes=1)
            return None

    def _patience(self) -> float:
        """How long to wait: not at all when there is more to do, briefly when something is held back, else until the tick."""
        if self._is_dirty:
            return 0.0
        until_tick = max(0.0, min(self._retry_at, self._ticked_at + self._config.tick_s) - time.monotonic())
        return min(SOON_S, until_tick) if self._reporter.has_untold(self._ledger.planned()) else until_tick

    # -- once a tick

    def _look_around(self, now: float) -> None:
        """See which workers live, whether Redis is still the same, and which bundles nobody holds."""
        close_old_connections()
        try:
            workers = [worker for worker in self._pool.workers() if worker.is_taking_work]
            self._processes = dict(sum((Counter(dict.fromkeys(w.queues, w.processes)) for w in workers), Counter()))
            self._expected.look(self._processes, now)
            self._notice_redis_restart()
            if self._ledger.under_way:
                self._count(lost_bundles=self._ledger.lose_unnamed(self._pool.held(), now))
            self._flush_counters()
        except (PoolUnavailable, RedisError) as error:
            self._expected.look((), now)
            logger.warning("workers are not to be seen: %s", error, extra={"action": "workers_unknown"})

    def _notice_redis_restart(self) -> None:
        run = self._inbox.run_id()
        if self._redis_run not in {None, run}:
            logger.warning("Redis was restarted; looking at the disk again", extra={"action": "redis_restarted"})
            self._ledger.lose_everything()
        self._redis_run = run

    def _count(self, **amounts: int) -> None:
        self._counted.update({name: amount for name, amount in amounts.items() if amount})

    def _flush_counters(self) -> None:
        self._count(stale_outcomes=self._ledger.stale)
        self._ledger.stale = 0
        if self._counted:
            self._inbox.count(**self._counted)
            self._counted.clear()

    # -- with the database

    def _reconcile(self) -> bool:
        """Bring ledger and database in line; whether another pass may find more to do."""
        limits = Limits(
            max_workers=self._config.max_workers,
            max_active_users=self._config.max_active_users,
            queues=frozenset(self._processes),
            expected=self._expected.queues,
            slot_max_s=self._config.slot_max_s,
        )
        ends = self._ledger.ends()
        held = Held(ends=tuple(ends), running=self._ledger.jobs, yielding=self._ledger.yielding, virtual_times=self._ledger.virtual_times())
        result = reconcile(self._lease, held, limits)
        for end in ends:
            self._ledger.drop(end.job)
            self._reporter.forget(end.job)
            if end.retry_in_s > 0:
                self._retry_at = min(self._retry_at, time.monotonic() + end.retry_in_s)
        self._count(stale_ends=len(ends) - len(result.ended), jobs_ended=len(result.ended), jobs_started=len(result.claimed))
        self._discard(result.digests)
        for claimed in result.claimed:
            self._take_on(claimed)
        for job in result.cancel & self._ledger.jobs:
            self._ledger.cancel(job)
        for preemption in result.preempt:
            if preemption.job in self._ledger.jobs:
                self._ledger.take_back(preemption.job, preemption.reason)
        self._stop_what_is_over()
        return result.has_decided or bool(self._ledger.ends())

    def _discard(self, digests: Iterable[str]) -> None:
        """What cannot be removed now is removed by housekeeping."""
        for digest in digests:
            try:
                trash.discard_tiles(self._config.data_dir, digest)
            except OSError as error:
                logger.warning("finished tiles were not removed: %s", error, extra={"action": "discard_failed"})

    def _take_on(self, claimed: Claimed) -> None:
        self._ledger.add(claimed, time.monotonic())
        self._prepare(claimed)

    def _prepare(self, claimed: Claimed) -> bool:
        """The claim makes the job's folders; a worker never does, and takes their absence as the job's end.

        The folders around them are not made here: where they are missing, a share is not mounted, and the job waits for it.
        """
        try:
            for folder in (self._config.data_dir / "results" / claimed.spec.id, self._config.data_dir / "tiles" / claimed.spec.digest):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            why = missing_root(self._config.data_dir) or refusal_of(error) or str(error)
            logger.warning("no folder for a job: %s", error, extra={"action": "folder_failed", "job_id": claimed.spec.id})
            self._ledger.refuse(claimed.job, why, time.monotonic())
            return False
        return True

    def _stop_what_is_over(self) -> None:
        for claimed in self._ledger.stopping():
            try:
                self._pool.stop(claimed.spec.id, claimed.epoch, is_ended=claimed.job in self._ledger.decided)
            except PoolUnavailable as error:
                logger.info("queued bundles will run out: %s", error, extra={"action": "stop_missed", "job_id": claimed.spec.id})

    # -- progress and work

    def _report(self, now: float) -> None:
        entries = self._ledger.planned()
        self._tell_browser(self._reporter.for_browser(entries, now))
        due = self._reporter.for_database(entries, now)
        shares = self._reporter.shares_to_save(self._ledger.shares(), now)
        if due or shares:
            with self._lease.transaction():
                save_progress(due)
                save_shares(shares)

    @staticmethod
    def _tell_browser(entries: Iterable[Entry]) -> None:
        made: dict[tuple[int, UUID], list[updates.JobProgress]] = {}
        for entry in entries:
            claimed = entry.claimed
            progress = updates.JobProgress(
                id=claimed.spec.id, attempt=claimed.attempt, tiles_processed=entry.progress, tiles_total=entry.tiles_total
            )
            made.setdefault((claimed.user, claimed.workflow), []).append(progress)
        updates.progress_of_many(made)

    def _dispatch(self, now: float) -> int:
        """Send what the queues have room for; how many bundles. Nothing without trust: the next pass renews it, or learns who leads."""
        if not self._lease.is_trusted:
            return 0
        parcels = self._parcels(self._ledger.dispatch(now, self._processes))
        try:
            for start in range(0, len(parcels), PARCELS_AT_ONCE):
                self._pool.submit(parcels[start : start + PARCELS_AT_ONCE])
        except PoolUnavailable as error:
            logger.warning("bundles could not be sent: %s", error, extra={"action": "bundle_unsent"})
            self._unsend(parcels)
            return 0
        sent = sum(len(parcel.bundles) for parcel in parcels)
        self._count(bundles_sent=sent)
        return sent

    def _parcels(self, dispatches: Iterable[Dispatch]) -> list[Parcel]:
        """What is to be sent, less the plans of jobs whose folders cannot be made."""
        parcels = []
        for _, group in groupby(list(dispatches), key=attrgetter("parcel")):
            fit = [dispatch for dispatch in group if self._is_fit(dispatch)]
            if fit:
                parcels.append(Parcel(bundles=tuple(d.bundle for d in fit), queue=fit[0].queue, is_first=fit[0].is_first))
        return parcels

    def _is_fit(self, dispatch: Dispatch) -> bool:
        if dispatch.bundle.kind is not Kind.PLAN or self._prepare(dispatch.claimed):
            return True
        self._ledger.unsend(dispatch.bundle)
        return False

    def _unsend(self, parcels: Iterable[Parcel]) -> None:
        """Those sent before the broker went away as well: what comes of them is nobody's, and their tiles are found on the disk."""
        for parcel in parcels:
            for bundle in parcel.bundles:
                self._ledger.unsend(bundle)

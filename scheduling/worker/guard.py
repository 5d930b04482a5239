"""What a worker does about a bundle that is stuck, or that nobody wants any more: the process that carries it is ended.

A pool of processes loses the one, which Celery replaces. A worker whose bundles run in its own process (the solo pool, as GPU workers
have it) ends itself, also when a bundle holds up a stop; its starter starts it again.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import psutil
from celery.worker import state as worker_state
from redis import Redis, RedisError

from scheduling import env
from scheduling.protocol.inbox import connect
from scheduling.protocol.messages import Failure, Outcome
from scheduling.protocol.stops import ENDED, stop_key
from scheduling.worker.task import DELIVERY_S, deliver
from scheduling.worker.watching import vitals
from scheduling.worker.watching.slots import Carried, Slots
from scheduling.worker.watching.stillness import BURN, Verdict
from scheduling.worker.watching.watch import Watch

logger = logging.getLogger(__name__)

#: A process that ends itself waits no longer for Redis: the ledger finds the bundle without its word. Nor does a watch over others.
STUCK_DELIVERY_S = 2.0
STUCK, STOPPED = 1, 0
NO_ANSWER = "the disk does not answer"


@dataclass(kw_only=True)
class Guard:
    """Over the bundles of one worker."""

    slots: Slots
    redis: Redis
    #: Parcels of which a process was ended: the loss of their bundles is reported, or is for the ledger to find.
    ended: set[str] = field(default_factory=set)

    def begin(self) -> None:
        """Watch from now on."""
        Watch(carried=self.slots.carried, idle=self.slots.idle, measure=vitals.measure, unwanted=self.unwanted, end=self.end).begin()

    def unwanted(self, carried: Collection[Carried]) -> Collection[str]:
        """Bundles of jobs that have ended; unknown counts as wanted."""
        try:
            found: Any = self.redis.mget([stop_key(one.job, one.epoch) for one in carried])
        except RedisError:
            return ()
        return {one.bundle for one, value in zip(carried, found, strict=True) if value == ENDED}

    def end(self, one: Carried, verdict: Verdict) -> None:
        """End the child that carries it, unless it has come to its end meanwhile."""
        if not _is_ours(one.pid) or self.slots.begun([one.bundle]) is None:
            return
        logger.warning(
            "a process is ended in mid-bundle: %s", verdict, extra={"action": "bundle_ended", "job_id": one.job, "epoch": one.epoch}
        )
        self.ended.add(one.parcel)
        for pid in vitals.family_of(one.pid):
            _kill(pid)
        report(one, verdict)


@dataclass(kw_only=True)
class SoloGuard(Guard):
    """Over the one process that is worker and child."""

    leave: Callable[[], None]
    exit: Callable[[int], Any] = os._exit
    is_stopping: Callable[[], bool] = lambda: worker_state.should_stop is not None  # an exit code, 0 most likely

    def unwanted(self, carried: Collection[Carried]) -> Collection[str]:
        """As for others; all of them when the worker is asked to stop: it has 15 s for that."""
        return {one.bundle for one in carried} if self.is_stopping() else super().unwanted(carried)

    def end(self, one: Carried, verdict: Verdict) -> None:
        """End this process."""
        logger.warning("ending in mid-bundle: %s", verdict, extra={"action": "bundle_ended", "job_id": one.job, "epoch": one.epoch})
        report(one, verdict)
        self.leave()
        self.exit(STOPPED if verdict is Verdict.UNWANTED else STUCK)


def report(one: Carried, verdict: Verdict) -> None:
    """Say what a bundle is charged with; of one that is charged with nothing, the ledger finds that nobody holds it."""
    failures = {
        Verdict.STILL: Failure(message=f"its process did nothing for {one.limit_s:.0f} s"),
        Verdict.BURNT: Failure(message=f"it came to no end in {BURN * one.limit_s:.0f} s of computing"),
        Verdict.DISK: Failure(message=NO_ANSWER, refusal=NO_ANSWER),
    }
    if verdict in failures:
        report_lost(one, failures[verdict], within_s=STUCK_DELIVERY_S)


def report_lost(one: Carried, failure: Failure, *, within_s: float = DELIVERY_S) -> None:
    """Tell the leader that a bundle's process is gone, since that cannot."""
    logger.warning("a bundle is lost: %s", failure.message, extra={"action": "child_lost", "job_id": one.job, "epoch": one.epoch})
    outcome = Outcome(bundle=one.bundle, job=one.job, epoch=one.epoch, worker=socket.gethostname(), is_lost=True, failure=failure)
    deliver(connect(env.read().redis_url), one.term, outcome, within_s=within_s)


def _is_ours(pid: int) -> bool:
    """The process's number may be another's by now."""
    try:
        return psutil.Process(pid).ppid() == os.getpid()
    except psutil.Error:
        return False


def _kill(pid: int) -> None:
    try:
        psutil.Process(pid).kill()
    except psutil.Error:
        return

"""Where bundles go: to Celery workers on any hosts. The pool carries; what runs and in which order is decided before."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Protocol, cast

from redis import Redis, RedisError

from scheduling.leader.publishing import publish, queue_keys
from scheduling.protocol import presence
from scheduling.protocol.messages import Parcel
from scheduling.protocol.stops import ENDED, stop_key

STOP_KEPT_S = 3600
#: What waits in a queue is held by nobody when no worker of that queue was seen for so long.
UNSERVED_S = 10.0


class PoolUnavailable(Exception):
    """The broker cannot be reached; what was to be sent counts as not sent."""


class Pool(Protocol):
    """What the loop needs of a pool."""

    def submit(self, parcels: Sequence[Parcel]) -> None:
        """Send parcels. Raises PoolUnavailable; then all of them count as not sent."""

    def stop(self, job: str, epoch: int, *, is_ended: bool) -> None:
        """Let bundles of this claim that have not begun come back unworked; of a job that has ended, also end soon what is under way."""

    def workers(self) -> list[presence.Heartbeat]:
        """Live workers. Raises PoolUnavailable."""

    def held(self) -> frozenset[str]:
        """Ids of parcels that wait in a queue or that a live worker names. Raises PoolUnavailable."""


class CeleryPool:
    """Celery over Redis."""

    def __init__(self, redis: Redis, unserved_s: float = UNSERVED_S) -> None:
        self._redis, self._unserved_s = redis, unserved_s
        #: When a worker of a queue was last seen.
        self._served_at = {"cpu": time.monotonic()}

    def submit(self, parcels: Sequence[Parcel]) -> None:
        """As Pool.submit."""
        try:
            publish(self._redis, parcels)
        except RedisError as error:
            raise PoolUnavailable(str(error)) from error

    def stop(self, job: str, epoch: int, *, is_ended: bool) -> None:
        """As Pool.stop."""
        try:
            self._redis.set(stop_key(job, epoch), ENDED if is_ended else b"1", ex=STOP_KEPT_S)
        except RedisError as error:
            raise PoolUnavailable(str(error)) from error

    def workers(self) -> list[presence.Heartbeat]:
        """As Pool.workers."""
        try:
            return presence.live(self._redis)
        except RedisError as error:
            raise PoolUnavailable(str(error)) from error

    def held(self) -> frozenset[str]:
        """As Pool.held."""
        workers = self.workers()
        named = {parcel for worker in workers for parcel in worker.bundles}
        now = time.monotonic()
        self._served_at |= {queue: now for worker in workers for queue in worker.queues}
        return frozenset(named | self._queued({queue for queue, at in self._served_at.items() if now - at <= self._unserved_s}))

    def _queued(self, queues: set[str]) -> set[str]:
        keys = [key for queue in queues for key in queue_keys(queue)]
        try:
            lists = [cast("Sequence[bytes]", self._redis.lrange(key, 0, -1)) for key in keys]
        except RedisError as error:
            raise PoolUnavailable(str(error)) from error
        return {parcel for messages in lists for message in messages if (parcel := _parcel_in(message))}


def _parcel_in(message: bytes) -> str | None:
    """The parcel that a queued message carries; None for a message that is not ours."""
    try:
        return str(json.loads(message)["headers"]["id"])
    except (KeyError, TypeError, ValueError):
        return None

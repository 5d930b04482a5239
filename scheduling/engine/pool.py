"""Where bundles go: to Celery workers on any hosts. The pool carries; what runs and in which order is decided before."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Protocol, cast

from kombu.exceptions import OperationalError
from redis import Redis, RedisError

from scheduling.engine import presence
from scheduling.engine.messages import Bundle
from scheduling.tasks import ENDED, stop_key
from scheduling.tasks import bundle as bundle_task
from scheduling.version import broker_prefix

EXPIRES_S = 60
STOP_KEPT_S = 3600
#: What waits in a queue is held by nobody when no worker of that queue was seen for so long.
UNSERVED_S = 60.0
#: How kombu names the list of a queue's lower priority.
PRIORITY_SEPARATOR = "\x06\x16"
FIRST, LATER = 0, 1


class PoolUnavailable(Exception):
    """The broker cannot be reached; nothing was sent."""


class Pool(Protocol):
    """What the loop needs of a pool."""

    def submit(self, bundle: Bundle, *, queue: str, is_first: bool) -> None:
        """Send a bundle; `is_first` overtakes the others. Raises PoolUnavailable."""

    def stop(self, job: str, epoch: int, *, is_ended: bool) -> None:
        """Let bundles of this claim that have not begun come back unworked; of a job that has ended, also end soon what is under way."""

    def workers(self) -> list[presence.Heartbeat]:
        """Live workers. Raises PoolUnavailable."""

    def held(self) -> frozenset[str]:
        """Bundles that wait in a queue or that a live worker names. Raises PoolUnavailable."""


class CeleryPool:
    """Celery over Redis."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        #: When a worker of a queue was last seen.
        self._served_at = {"cpu": time.monotonic()}

    def submit(self, bundle: Bundle, *, queue: str, is_first: bool) -> None:
        """As Pool.submit."""
        try:
            bundle_task.apply_async(
                args=(bundle.to_json(),),
                task_id=bundle.id,
                queue=queue,
                priority=FIRST if is_first else LATER,
                expires=EXPIRES_S,
            )
        except (OperationalError, RedisError, OSError) as error:
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
        named = {bundle for worker in workers for bundle in worker.bundles}
        now = time.monotonic()
        self._served_at |= {queue: now for worker in workers for queue in worker.queues}
        return frozenset(named | self._queued({queue for queue, at in self._served_at.items() if now - at <= UNSERVED_S}))

    def _queued(self, queues: set[str]) -> set[str]:
        names = [f"{broker_prefix()}{queue}" for queue in queues]
        keys = [key for name in names for key in (name, f"{name}{PRIORITY_SEPARATOR}{LATER}")]
        try:
            lists = [cast("Sequence[bytes]", self._redis.lrange(key, 0, -1)) for key in keys]
        except RedisError as error:
            raise PoolUnavailable(str(error)) from error
        return {bundle for messages in lists for message in messages if (bundle := _bundle_in(message))}


def _bundle_in(message: bytes) -> str | None:
    """The bundle that a queued message carries; None for a message that is not ours."""
    try:
        return str(json.loads(message)["headers"]["id"])
    except (KeyError, TypeError, ValueError):
        return None

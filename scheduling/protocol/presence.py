"""Which workers live: each writes a heartbeat to Redis every second, which expires by Redis's own clock. No Django."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import cast

from redis import Redis

from scheduling.version import code_version

logger = logging.getLogger(__name__)

NAMES = "workers"
BEAT_S = 1.0
EXPIRES_S = 5


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """What a worker says of itself."""

    name: str
    queues: tuple[str, ...]
    #: Processes that compute tiles.
    processes: int
    #: "idle", "running" or "stopping".
    state: str
    #: Bundles received and not yet ended.
    bundles: tuple[str, ...]
    #: UTC, ISO 8601.
    heartbeat: str
    #: Of its code; "" for one that does not say.
    version: str = ""

    @property
    def is_taking_work(self) -> bool:
        """A worker that stops finishes what it has and takes nothing new; one of another version gets nothing."""
        return self.state != "stopping" and self.is_of_this_version

    @property
    def is_of_this_version(self) -> bool:
        """Whether it runs the code that asks."""
        return self.version == code_version()


def beat(redis: Redis, heartbeat: Heartbeat) -> None:
    """Say that this worker lives."""
    with redis.pipeline(transaction=False) as pipe:
        pipe.sadd(NAMES, heartbeat.name)
        pipe.set(_key(heartbeat.name), json.dumps(asdict(heartbeat)), ex=EXPIRES_S)
        pipe.execute()


def leave(redis: Redis, name: str) -> None:
    """Say that this worker has ended."""
    with redis.pipeline(transaction=False) as pipe:
        pipe.srem(NAMES, name)
        pipe.delete(_key(name))
        pipe.execute()


def live(redis: Redis) -> list[Heartbeat]:
    """The workers heard of in the last seconds, by name; forgets the others."""
    names = sorted(name.decode() for name in cast("set[bytes]", redis.smembers(NAMES)))
    values = cast("Sequence[bytes | None]", redis.mget([_key(name) for name in names])) if names else []
    gone = [name for name, value in zip(names, values, strict=True) if value is None]
    if gone:
        redis.srem(NAMES, *gone)
    return [heartbeat for value in values if value is not None and (heartbeat := _parse(value))]


def queues_served(workers: Iterable[Heartbeat]) -> frozenset[str]:
    """Queues from which some worker takes work."""
    return frozenset(queue for worker in workers if worker.is_taking_work for queue in worker.queues)


def _parse(value: bytes) -> Heartbeat | None:
    """None for a heartbeat that cannot be read; what a newer worker adds is left out, an older one says no version."""
    try:
        said = {"version": "", **json.loads(value)}
        data = {field.name: said[field.name] for field in fields(Heartbeat)}
        return Heartbeat(**{**data, "queues": tuple(data["queues"]), "bundles": tuple(data["bundles"])})
    except (KeyError, TypeError, ValueError) as error:
        logger.warning("a heartbeat cannot be read: %r", error, extra={"action": "heartbeat_unreadable"})
        return None


def _key(name: str) -> str:
    return f"worker:{name}"

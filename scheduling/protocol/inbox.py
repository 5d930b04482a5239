"""What reaches the leader: outcomes of bundles on `inbox:<term>`, and pokes that only wake it. A hint, never truth.

The lists are Redis lists; losing any entry costs time, not work: the ledger finds lost bundles and sends them again. No Django.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any, cast

from redis import Redis

logger = logging.getLogger(__name__)

POKE = "inbox:poke"
COUNTERS = "engine:counters"
EXPIRES_S = 3600
BATCH = 1000
#: Redis 6.2 takes a wait below a millisecond for one without end.
SHORTEST_WAIT_S = 0.01


def connect(url: str, *, timeout_s: float = 5.0) -> Redis:
    """A client that never hangs: connecting and answering are bounded."""
    return Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=2, health_check_interval=15)


class Inbox:
    """The leader's mailbox, and what others use to write to it."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def push(self, term: int, *outcomes: dict[str, Any]) -> None:
        """Deliver outcomes to the leader of that term; nobody else ever reads them."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.rpush(_key(term), *[json.dumps(outcome) for outcome in outcomes])
            pipe.expire(_key(term), EXPIRES_S)
            pipe.execute()

    def poke(self) -> None:
        """Wake the leader; many pokes are one."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.rpush(POKE, "1")
            pipe.ltrim(POKE, -1, -1)
            pipe.expire(POKE, EXPIRES_S)
            pipe.execute()

    def take(self, term: int, *, timeout_s: float) -> tuple[list[dict[str, Any]], bool]:
        """Wait for something, then take what there is: (outcomes, poked)."""
        first = self._redis.blpop([_key(term), POKE], timeout=max(timeout_s, SHORTEST_WAIT_S)) if timeout_s > 0 else None
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.lpop(_key(term), BATCH)
            pipe.lpop(POKE, BATCH)
            more, pokes = pipe.execute()
        outcomes = list(more or [])
        poked = bool(pokes)
        if first:
            name, value = cast("Sequence[bytes]", first)
            if name.decode() == POKE:
                poked = True
            else:
                outcomes.insert(0, value)
        return [decoded for value in outcomes if (decoded := _decoded(value)) is not None], poked

    def count(self, **amounts: float) -> None:
        """Add to the engine's counters that /metrics shows."""
        with self._redis.pipeline(transaction=False) as pipe:
            for name, amount in amounts.items():
                pipe.hincrbyfloat(COUNTERS, name, amount)
            pipe.execute()

    def counters(self) -> dict[str, float]:
        """All counters."""
        found = cast("dict[bytes, bytes]", self._redis.hgetall(COUNTERS))
        return {name.decode(): float(value) for name, value in found.items()}

    def run_id(self) -> str:
        """Changes whenever Redis was restarted, perhaps empty."""
        return str(self._redis.info("server")["run_id"])


def _decoded(value: bytes) -> dict[str, Any] | None:
    """None for what is not JSON: the list is written by whoever reaches this Redis, and reading it must not end the leader."""
    try:
        return cast("dict[str, Any]", json.loads(value))
    except ValueError as error:
        logger.warning("an outcome is not JSON: %s", error, extra={"action": "outcome_unreadable"})
        return None


def _key(term: int) -> str:
    return f"inbox:{term}"

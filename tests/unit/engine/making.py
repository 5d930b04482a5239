"""Short ways to write the facts of a test: slots, heads, claims, outcomes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from scheduling.engine.config import EngineConfig
from scheduling.engine.entry import Claimed
from scheduling.engine.ledger import Dispatch
from scheduling.engine.policy import Head, Limits, Running, Slot, Waiting
from scheduling.jobtypes.base import JobSpec
from scheduling.protocol.messages import Bundle, Failure, Outcome, Planned
from scheduling.tilestore.tilefiles import to_ranges

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
NOW = BEGAN + timedelta(hours=1)
CPU = frozenset({"cpu"})


def slot(user: int, *, can_run: bool = True, held_s: float = 3600.0) -> Slot:
    """An active user, since so many seconds before NOW."""
    return Slot(user=user, since=NOW - timedelta(seconds=held_s), can_run=can_run)


def waiting(user: int, at_s: float = 0.0) -> Waiting:
    """A user who has queued since `at_s`."""
    return Waiting(user=user, since=BEGAN + timedelta(seconds=at_s))


def running(job: int, user: int, lane: str | None = None, **changes: Any) -> Running:
    """A job that runs, in a lane of its own when none is named, claimed in the order of the keys."""
    return Running(**{"job": job, "user": user, "lane": lane or f"lane-of-{job}", "epoch": job, **changes})


def head(job: int, user: int, lane: str | None = None, queue: str = "cpu") -> Head:
    """A lane head, in a lane of its own when none is named."""
    return Head(job=job, user=user, lane=lane or f"lane-of-{job}", queue=queue)


def limits(
    workers: int = 4, users: int = 3, queues: frozenset[str] = CPU, slot_max_s: float = 0.0, expected: frozenset[str] | None = None
) -> Limits:
    """What may be used; slots are given for the work of the queues that are served, unless stated."""
    given = CPU | queues if expected is None else expected
    return Limits(max_workers=workers, max_active_users=users, queues=queues, expected=given, slot_max_s=slot_max_s)


def config(**changes: Any) -> EngineConfig:
    """The engine's defaults, with some changed."""
    return EngineConfig(**{"data_dir": Path("unused"), "max_workers": 4, "max_concurrent_users": 3, **changes})


def claimed(job: int = 1, *, user: int = 1, tiles: int | None = 10, **changes: Any) -> Claimed:
    """A claimed job; `tiles=None` is one that must be planned first."""
    spec = JobSpec(id=f"uuid-{job}", owner=f"user-{user}", job_type="SEGMENT_CELLS", parameters={}, slide=None, digest=f"digest-{job}")
    base: dict[str, Any] = {
        "job": job,
        "user": user,
        "weight": 1.0,
        "workflow": UUID(int=1),
        "attempt": 1,
        "epoch": job + 100,
        "queue": "cpu",
        "spec": spec,
        "tiles_total": tiles,
    }
    return Claimed(**{**base, **changes})


def outcome(sent: Dispatch | Bundle, **changes: Any) -> Outcome:
    """What a worker would report of this bundle; nothing finished unless stated."""
    bundle = sent.bundle if isinstance(sent, Dispatch) else sent
    return Outcome(**{"bundle": bundle.id, "job": bundle.spec.id, "epoch": bundle.epoch, "seconds": 0.1, **changes})


def all_done(sent: Dispatch, seconds: float = 0.1) -> Outcome:
    """Every tile of the bundle was finished."""
    return outcome(sent, done=sent.bundle.tiles, seconds=seconds)


def planned(sent: Dispatch, tiles: int, finished: list[int] | None = None, **changes: Any) -> Outcome:
    """The answer of a planning bundle."""
    ranges = tuple((start, stop) for start, stop in to_ranges(sorted(finished or [])))
    return outcome(sent, plan=Planned(**{"tiles_total": tiles, "batch": 1, "seconds_per_tile": 0.05, "finished": ranges, **changes}))


def raised(sent: Dispatch, tile: int | None, message: str = "boom", **changes: Any) -> Outcome:
    """The bundle's tile raised; the tiles before it were finished."""
    done = tuple(index for index in sent.bundle.tiles if tile is not None and index < tile)
    return outcome(sent, done=done, failure=Failure(message=message, tile=tile, traceback="Traceback", **changes))

"""How long one decision takes when many users wait with many branches each."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from scheduling.engine.policy import Head, Limits, Running, Slot, Snapshot, Waiting, decide
from tests.bench.figures import Figure

ROUNDS = 50
USERS = 300
HEADS_PER_USER = 50
NOW = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=1)
LIMITS = Limits(max_workers=64, max_active_users=32, queues=frozenset({"cpu"}))


def snapshot() -> Snapshot:
    """32 active users with one running job each, the others waiting, each with 50 branches."""
    began = datetime(2026, 1, 1, tzinfo=UTC)
    heads = (
        Head(job=user * HEADS_PER_USER + branch, user=user, lane=f"{user}:{branch}", queue="cpu")
        for user in range(USERS)
        for branch in range(1, HEADS_PER_USER)
    )
    return Snapshot(
        slots=tuple(Slot(user=user, since=began, can_run=True) for user in range(32)),
        waiting=tuple(Waiting(user=user, since=began + timedelta(seconds=user)) for user in range(32, USERS)),
        running=tuple(Running(job=user * HEADS_PER_USER, user=user, lane=f"{user}:0") for user in range(32)),
        heads=tuple(heads),
        virtual_times={user: float(user % 7) for user in range(USERS)},
    )


def measure() -> dict[str, Figure]:
    """The median time of a decision."""
    facts, times = snapshot(), []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        decisions = decide(facts, LIMITS, NOW)
        times.append(time.perf_counter() - began)
    assert len(decisions.claim) == LIMITS.max_workers - len(facts.running)
    median_ms = sorted(times)[ROUNDS // 2] * 1000
    return {f"decide, {USERS} users, {len(facts.heads)} branch heads": Figure(round(median_ms, 3), "ms", "lower")}

"""The leader's pass over the database: ends first, then slots, then claims, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from django.utils import timezone

from scheduling.engine.entry import Claimed, End
from scheduling.engine.policy import Decisions, Limits, Preemption, decide
from scheduling.live import updates
from scheduling.store.claims import claim_jobs, take_over_jobs
from scheduling.store.ends import end_jobs
from scheduling.store.lease import Lease
from scheduling.store.slots import admit_users, expect_queues, lock_concerned, release_slots, requeue_users
from scheduling.store.snapshot import read_facts


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What one pass changed."""

    #: Ends that were written; an end that is missing here was of a claim that is not ours any more.
    ended: tuple[End, ...] = ()
    claimed: tuple[Claimed, ...] = ()
    #: Jobs of the ledger that a user wants to end, or that do not run any more.
    cancel: frozenset[int] = frozenset()
    #: Running jobs to be taken back.
    preempt: tuple[Preemption, ...] = ()
    #: Tile folders that are needed no more.
    digests: tuple[str, ...] = ()
    #: Something was decided, so another pass may find more to do.
    has_decided: bool = False


@dataclass(frozen=True, kw_only=True)
class Held:
    """What the leader holds in memory when it looks at the database."""

    ends: tuple[End, ...] = ()
    running: frozenset[int] = frozenset()
    yielding: frozenset[int] = frozenset()
    virtual_times: Mapping[int, float] = field(default_factory=dict)


def reconcile(lease: Lease, held: Held, limits: Limits) -> Pass:
    """Write the ends, read the facts, decide, and apply the decisions. Raises Deposed; then nothing is changed."""
    with lease.transaction():
        now = timezone.now()
        is_draining, expected = lease.standing()
        limits = replace(limits, is_draining=is_draining)
        if limits.expected != expected:
            expect_queues(lease, limits.expected)
        waiting = lock_concerned((end.job for end in held.ends), limits.max_active_users, limits.expected)
        ended = end_jobs(lease, held.ends, now)
        still = held.yielding - {ending.end.job for ending in ended}
        facts = read_facts(limits, now, held.virtual_times, still, waiting=waiting)
        # A commit whose answer was lost leaves jobs that run by a claim of ours which the ledger does not know.
        are_unknown = any(job.job not in held.running for job in facts.snapshot.running)
        strays = take_over_jobs(lease, now, known=held.running) if are_unknown else []
        decisions = decide(facts.snapshot, limits, now)
        claimed = _apply(lease, decisions, limits, now)
        if ended or decisions.claim:
            updates.queue_changed()
        # What was taken back and started again in one pass runs as well.
        running = {job.job for job in facts.snapshot.running} | {one.job for one in claimed}
        return Pass(
            ended=tuple(ending.end for ending in ended),
            claimed=(*strays, *claimed),
            cancel=facts.unwanted & held.running | held.running - running,
            preempt=decisions.preempt,
            digests=tuple(ending.digest for ending in ended if ending.needs_no_tiles),
            has_decided=bool(ended or are_unknown or decisions.release or decisions.requeue or decisions.admit or decisions.claim),
        )


def _apply(lease: Lease, decisions: Decisions, limits: Limits, now: datetime) -> list[Claimed]:
    """Carry out what was decided of slots and starts; the jobs started."""
    if decisions.release:
        release_slots(lease, decisions.release, limits.expected, now)
    if decisions.requeue:
        requeue_users(lease, decisions.requeue, now)
    if decisions.admit:
        admit_users(lease, decisions.admit, limits.expected, now)
    return claim_jobs(lease, decisions.claim, now) if decisions.claim else []

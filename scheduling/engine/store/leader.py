"""The leader's pass over the database: ends first, then slots, then claims, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.utils import timezone

from scheduling import events
from scheduling.engine.entry import Claimed, End
from scheduling.engine.lease import Lease
from scheduling.engine.policy import Limits, decide
from scheduling.engine.store.claims import cancel_requests, claim_jobs, take_over_jobs
from scheduling.engine.store.ends import end_jobs, finished_digests
from scheduling.engine.store.slots import admit_users, lock_concerned, release_slots
from scheduling.engine.store.snapshot import read_snapshot


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What one pass changed."""

    #: Ends that were written; an end that is missing here was of a claim that is not ours any more.
    ended: tuple[End, ...] = ()
    claimed: tuple[Claimed, ...] = ()
    #: Jobs of the ledger that a user wants to end, or that do not run any more.
    cancel: frozenset[int] = frozenset()
    #: Tile folders that are needed no more.
    digests: tuple[str, ...] = ()
    #: Something was decided, so another pass may find more to do.
    has_decided: bool = False


def reconcile(lease: Lease, ends: Sequence[End], running: frozenset[int], limits: Limits, virtual_times: Mapping[int, float]) -> Pass:
    """Write the ends, read the facts, decide, and apply the decisions. Raises Deposed; then nothing is changed."""
    with lease.transaction():
        now = timezone.now()
        lock_concerned((end.job for end in ends), limits.max_active_users)
        ended = end_jobs(lease, ends, now)
        snapshot = read_snapshot(limits.max_active_users, virtual_times)
        # A commit whose answer was lost leaves jobs that run by a claim of ours which the ledger does not know.
        are_unknown = any(job.job not in running for job in snapshot.running)
        strays = take_over_jobs(lease, now, known=running) if are_unknown else []
        decisions = decide(snapshot, limits)
        if decisions.release:
            release_slots(lease, decisions.release)
        if decisions.admit:
            admit_users(lease, decisions.admit, now)
        claimed = claim_jobs(lease, decisions.claim, now) if decisions.claim else []
        if ended or decisions.claim:
            events.queue_changed()
        return Pass(
            ended=tuple(ended),
            claimed=(*strays, *claimed),
            cancel=frozenset(cancel_requests(running)),
            digests=tuple(finished_digests(ended)),
            has_decided=bool(ended or are_unknown or decisions.release or decisions.admit or decisions.claim),
        )

"""The leader's ledger of dispatched bundles: the only re-delivery there is. Memory alone; rebuilt from disk by planning.

It decides which bundle goes next (fair shares), takes outcomes in, finds lost bundles, and reports progress and ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from uuid import uuid4

from scheduling.engine.config import EngineConfig
from scheduling.engine.entry import Claimed, End, Entry, Stage
from scheduling.engine.policy import FairClock
from scheduling.engine.ready import Ready
from scheduling.protocol.messages import Bundle, Failure, Kind, Outcome
from scheduling.states import JobState

_GONE = "The folder of the job's tiles or results is not there."
_DAMAGED = "A finished tile was missing or damaged."
_KIND = {Stage.PLAN: Kind.PLAN, Stage.TILES: Kind.TILES, Stage.FINISH: Kind.FINISH}


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A bundle under way."""

    bundle: Bundle
    job: int
    user: int
    queue: str
    guess_s: float
    sent_at: float
    #: What it travels in: the id of the parcel's first bundle.
    parcel: str


@dataclass(frozen=True, kw_only=True)
class Dispatch:
    """A bundle to be submitted. Those of one parcel follow one another, and agree on the queue and on whether it overtakes."""

    bundle: Bundle
    claimed: Claimed
    queue: str
    #: Planning, finishing and a user's only bundle overtake the others.
    is_first: bool
    parcel: str


class Ledger:
    """Running jobs and their bundles. Times are seconds of the loop's monotonic clock."""

    def __init__(self, config: EngineConfig, term: int) -> None:
        self._config = config
        self._term = term
        self._entries: dict[int, Entry] = {}
        self._sent: dict[str, Sent] = {}
        #: Parcels under way that carry, or carried, more than one bundle.
        self._shared: set[str] = set()
        #: When a bundle's parcel was last named by a worker or seen in a queue.
        self._named_at: dict[str, float] = {}
        self._looked_at = float("inf")
        self._clocks: dict[str, FairClock] = {}
        #: Outcomes that were not of a bundle under way: late, double or of another claim.
        self.stale = 0
        #: Since this leader began: tiles that workers have finished, and the seconds they took, by queue.
        self.tiles = 0
        self.worker_s: dict[str, float] = {}

    def add(self, claimed: Claimed, now: float = 0.0) -> None:
        """Take on a claimed job."""
        beside = [entry.virtual_s for entry in self._entries.values() if entry.claimed.user == claimed.user and not entry.is_over]
        # As among users: a job that comes later has no credit for the time before it.
        self._entries[claimed.job] = Entry(claimed=claimed, virtual_s=min(beside, default=0.0), claimed_at=now)
        self._clock(claimed.queue).set_weight(claimed.user, claimed.weight)

    def drop(self, job: int) -> None:
        """Forget a job: it ended, or is not ours any more."""
        entry = self._entries.pop(job, None)
        for bundle in entry.bundles if entry else ():
            self._sent.pop(bundle, None)

    @property
    def jobs(self) -> frozenset[int]:
        """Keys of the jobs taken on."""
        return frozenset(self._entries)

    @property
    def under_way(self) -> int:
        """Number of bundles sent and not come back."""
        return len(self._sent)

    def virtual_times(self) -> dict[int, float]:
        """Virtual seconds by user, over all queues."""
        times: dict[int, float] = {}
        for clock in self._clocks.values():
            for user, seconds in clock.times.items():
                times[user] = times.get(user, 0.0) + seconds
        return times

    def shares(self) -> dict[tuple[int, str], float]:
        """Virtual seconds by (user, queue): what a later leader has to know."""
        return {(user, queue): seconds for queue, clock in self._clocks.items() for user, seconds in clock.times.items()}

    def begin(self, claimed: Iterable[Claimed], shares: Mapping[tuple[int, str], float], now: float = 0.0) -> None:
        """Carry on under a new leader. Whose jobs ran were sharing already, so a newcomer is measured by them: no credit for a restart."""
        for queue in {queue for _, queue in shares}:
            self._clocks[queue] = FairClock({user: seconds for (user, of), seconds in shares.items() if of == queue})
        for one in claimed:
            self.add(one, now)
        for queue, clock in self._clocks.items():
            clock.contend(entry.claimed.user for entry in self._entries.values() if self._has_work(entry, queue))

    # -- what goes out

    def dispatch(self, now: float, processes: dict[str, int]) -> Iterator[Dispatch]:
        """Bundles to send now, fairest first, as long as a queue has room for `bundles_per_process` parcels each.

        Where more jobs are ready than there are processes, small bundles of several travel in one parcel, within one time box.
        """
        self._shared.intersection_update(sent.parcel for sent in self._sent.values())
        for queue, count in processes.items():
            at_work = [entry for entry in self._entries.values() if self._has_work(entry, queue)]
            clock = self._clock(queue)
            clock.contend(entry.claimed.user for entry in at_work)
            ready = Ready(clock, (entry for entry in at_work if entry.is_ready(now)))
            most = -(-len(ready) // max(count, 1))
            for _ in range(count * self._config.bundles_per_process - self._parcels(queue)):
                if not ready:
                    break
                yield from self._parcel(ready, now, count, most)

    def _parcels(self, queue: str) -> int:
        """How many are under way."""
        return len({sent.parcel for sent in self._sent.values() if sent.queue == queue})

    def _parcel(self, ready: Ready, now: float, processes: int, most: int) -> Iterator[Dispatch]:
        """One parcel of at most so many bundles: the fairest, and others as long as they fit into its time box."""
        time_box_s, taken, parcel = self._config.time_box_s, list[Entry](), ""
        left_s, is_first = time_box_s, False
        while ready and len(taken) < most:
            entry = ready.pop()
            taken.append(entry)
            if len(taken) == 1:
                is_first = entry.stage is not Stage.TILES or not self._is_served(entry.claimed.user)
            elif entry.is_suspect or entry.expected_s(time_box_s, processes) > left_s:
                break
            sent = self._send(entry, now, processes, parcel)
            if parcel:
                self._shared.add(parcel)
            parcel = sent.parcel
            yield Dispatch(bundle=sent.bundle, claimed=entry.claimed, queue=sent.queue, is_first=is_first, parcel=parcel)
            left_s -= sent.guess_s
            if entry.is_suspect or left_s <= 0:
                break
        for entry in taken:
            if entry.is_ready(now):
                ready.push(entry)

    def _is_served(self, user: int) -> bool:
        return any(sent.user == user for sent in self._sent.values())

    def _send(self, entry: Entry, now: float, processes: int, parcel: str) -> Sent:
        claimed, kind = entry.claimed, _KIND[entry.stage]
        tiles = entry.take(now, self._config.time_box_s, processes) if kind is Kind.TILES else ()
        bundle = Bundle(
            id=uuid4().hex,
            kind=kind,
            term=self._term,
            epoch=claimed.epoch,
            spec=claimed.spec,
            time_box_s=self._config.time_box_s,
            limit_s=entry.limit_s(kind, self._config.time_box_s, self._config.stuck_s),
            tiles=tiles,
            batch=entry.batch,
            tiles_total=entry.tiles_total or 0,
            step=entry.look_at if kind is Kind.PLAN else entry.step,
            is_last=kind is Kind.TILES and entry.done + len(tiles) == entry.tiles_total,
        )
        guess_s = entry.guess_s(kind, len(tiles), self._config.time_box_s)
        sent = Sent(
            bundle=bundle, job=claimed.job, user=claimed.user, queue=claimed.queue, guess_s=guess_s, sent_at=now, parcel=parcel or bundle.id
        )
        self._sent[bundle.id] = sent
        entry.bundles.add(bundle.id)
        self._charge(entry, guess_s)
        return sent

    # -- what comes back

    def settle(self, outcome: Outcome, now: float) -> None:
        """Take an outcome in; one that is not of a bundle under way changes nothing and is counted."""
        sent = self._sent.get(outcome.bundle)
        if sent is None or sent.bundle.epoch != outcome.epoch:
            self.stale += 1
            return
        del self._sent[outcome.bundle]
        entry = self._entries[sent.job]
        entry.bundles.discard(outcome.bundle)
        if outcome.is_lost:
            failure = outcome.failure or Failure(message="the worker process died while computing it")
            self._lose(entry, sent.bundle, now, failure, is_shared=sent.parcel in self._shared)
            return
        self._charge(entry, outcome.seconds - sent.guess_s)
        self.worker_s[sent.queue] = self.worker_s.get(sent.queue, 0.0) + outcome.seconds
        self._take_in(entry, sent.bundle, outcome, now)

    def _take_in(self, entry: Entry, bundle: Bundle, outcome: Outcome, now: float) -> None:
        if bundle.kind is Kind.TILES and entry.stage is not Stage.PLAN:
            done = set(bundle.tiles).intersection(outcome.done)
            entry.mark_done(done)
            entry.give_back(bundle.tiles)
            if done:
                self.tiles += len(done)
                entry.measure(len(done), outcome.seconds)
                entry.has_progressed()
        entry.warnings += [warning for warning in outcome.warnings if warning not in entry.warnings]
        if outcome.failure is not None:
            self._fail(entry, outcome.failure, now)
        elif outcome.is_gone or outcome.is_damaged:
            # Several bundles may find the same: one of them is charged.
            if bundle.kind is Kind.PLAN or entry.stage is not Stage.PLAN:
                self._fail(entry, Failure(message=_GONE if outcome.is_gone else _DAMAGED), now)
            entry.stage, entry.look_at = Stage.PLAN, 0
        elif outcome.plan is not None:
            entry.stalled_s = 0.0
            entry.warnings += [warning for warning in outcome.plan.warnings if warning not in entry.warnings]
            entry.take_survey(bundle, outcome.plan, outcome.next_step)
        elif outcome.next_step is not None:
            entry.step = outcome.next_step
            entry.has_progressed()
        if outcome.artifacts is not None and not entry.is_decided:
            entry.finish_as(JobState.SUCCEEDED, complete=outcome)

    def _fail(self, entry: Entry, failure: Failure, now: float) -> None:
        """Try again after a while, or fail the job: after as many tries as configured, or at once when it says so."""
        if failure.refusal:
            self._refuse(entry, failure.refusal, now)
            return
        tries = entry.tries[failure.tile] = entry.tries.get(failure.tile, 0) + 1
        if failure.is_final or tries >= self._config.tile_tries:
            where = "" if failure.tile is None else f"Tile {failure.tile}: "
            often = "" if failure.is_final else f" (tried {tries} times)"
            if not entry.is_decided:
                entry.finish_as(JobState.FAILED, error=f"{where}{failure.message}{often}", traceback=failure.traceback)
            return
        entry.trouble = f"{'' if failure.tile is None else f'tile {failure.tile}: '}{failure.message}"
        waits = self._config.tile_backoff_s
        entry.not_before[failure.tile] = now + waits[min(tries, len(waits)) - 1]

    def refuse(self, job: int, why: str, now: float) -> None:
        """The disk refuses what this job needs before anything of it can be sent."""
        self._refuse(self._entries[job], why, now)

    def _refuse(self, entry: Entry, why: str, now: float) -> None:
        """Wait, charged to no tile; fail the job when the disk has refused for too long."""
        entry.refused_since = now if entry.refused_since is None else entry.refused_since
        entry.held_until, entry.refusal = now + self._config.disk_probe_s, why
        if now - entry.refused_since > self._config.disk_patience_s and not entry.is_decided:
            entry.finish_as(JobState.FAILED, error=f"{why}, for {self._config.disk_patience_s / 60:.0f} minutes")

    def _lose(self, entry: Entry, bundle: Bundle, now: float, failure: Failure, *, is_shared: bool) -> None:
        """A worker process died with this bundle, or had to be ended: find what it finished.

        Its tiles go alone, and alone they are charged, unless it was the disk. `is_shared`: others were in its parcel.
        """
        entry.stage = Stage.PLAN
        if failure.refusal:
            self._refuse(entry, failure.refusal, now)
            return
        entry.alone.update(bundle.tiles)
        if len(bundle.tiles) <= 1 and not is_shared:
            self._fail(entry, replace(failure, tile=bundle.tiles[0] if bundle.tiles else None), now)

    def lose_unnamed(self, held: frozenset[str], now: float) -> int:
        """Bundles that nobody has held for a while are lost, charged to no tile; how many.

        For a while: between leaving its queue and the worker's next heartbeat a bundle is named by nobody. What is named may take
        as long as it needs: its worker watches over it. Time in which nobody looked here does not count: a busy machine lets
        heartbeats come late as well.
        """
        late_s = max(0.0, now - self._looked_at - 2 * self._config.tick_s)
        self._looked_at = now
        self._named_at = {key: at + late_s for key, at in self._named_at.items()}
        self._named_at = {key: now if sent.parcel in held else self._named_at.get(key, sent.sent_at) for key, sent in self._sent.items()}
        late = [sent for key, sent in self._sent.items() if now - self._named_at[key] > self._config.lost_after_s]
        for job in {sent.job for sent in late}:
            self._entries[job].stage = Stage.PLAN
        for sent in late:
            del self._sent[sent.bundle.id]
            self._entries[sent.job].bundles.discard(sent.bundle.id)
        return len(late)

    def lose_everything(self) -> None:
        """Redis was restarted: nothing sent before can be relied on."""
        self._sent.clear()
        for entry in self._entries.values():
            entry.lose_all()

    def unsend(self, bundle: Bundle) -> None:
        """A bundle could not be submitted after all."""
        sent = self._sent.pop(bundle.id, None)
        if sent is not None:
            entry = self._entries[sent.job]
            entry.bundles.discard(bundle.id)
            entry.give_back(bundle.tiles)
            self._charge(entry, -sent.guess_s)

    # -- what time brings

    def look(self, now: float) -> None:
        """Fail what has run for too long or stands still, and take back what can only wait."""
        for entry in self._entries.values():
            entry.look(now)
            if entry.is_over:
                continue
            if reason := entry.overrun(self._config.no_progress_s):
                entry.finish_as(JobState.FAILED, error=reason)
            elif (until := entry.waits_until(now)) is not None:
                self._wait(entry, until - now, now)

    def _wait(self, entry: Entry, wait_s: float, now: float) -> None:
        """The job gives its place away meanwhile; it keeps its user's slot and its place in its lane."""
        is_refused = now < entry.held_until
        words = f"{entry.refusal}, retrying" if is_refused else "retrying"
        entry.yielding = f"{words} in {math.ceil(wait_s)} s" + ("" if is_refused else f": {entry.trouble}")
        entry.finish_as(JobState.PENDING)
        assert entry.end is not None
        refused_for_s = None if entry.refused_since is None else now - entry.refused_since
        entry.end = replace(entry.end, retry_in_s=wait_s, retry_reason=words, refused_for_s=refused_for_s)

    # -- what the store is told

    def cancel(self, job: int) -> None:
        """Send nothing more of this job."""
        self._entries[job].is_cancelled = True

    def take_back(self, job: int, reason: str) -> None:
        """Send nothing more of this job; it waits again, with its finished tiles, when what is under way has come back."""
        self._entries[job].yielding = reason

    @property
    def yielding(self) -> frozenset[int]:
        """Jobs that are being taken back."""
        return frozenset(job for job, entry in self._entries.items() if entry.yielding)

    def ends(self) -> list[End]:
        """Jobs that are over and of which nothing is under way any more."""
        for entry in self._entries.values():
            if entry.end is None and not entry.bundles:
                if entry.is_cancelled:
                    entry.finish_as(JobState.CANCELLED, error="cancelled")
                elif entry.yielding:
                    entry.finish_as(JobState.PENDING)
        # Tiles that were under way when the end was decided have counted since.
        return [
            replace(
                entry.end,
                tiles_processed=entry.progress,
                tiles_total=entry.tiles_total,
                index_sha256=entry.end.index_sha256 or entry.index_sha256,
            )
            for entry in self._entries.values()
            if entry.end is not None and not entry.bundles
        ]

    def stopping(self) -> list[Claimed]:
        """Jobs that are over while bundles of them are still under way."""
        return [entry.claimed for entry in self._entries.values() if entry.is_over and entry.bundles]

    @property
    def decided(self) -> frozenset[int]:
        """Jobs that have ended but for what is still under way."""
        return frozenset(job for job, entry in self._entries.items() if entry.is_decided)

    def planned(self) -> list[Entry]:
        """Entries that have a progress to show."""
        return [entry for entry in self._entries.values() if entry.tiles_total is not None]

    # -- inside

    def _has_work(self, entry: Entry, queue: str) -> bool:
        return entry.claimed.queue == queue and not entry.is_over

    def _charge(self, entry: Entry, seconds: float) -> None:
        entry.virtual_s += seconds
        self._clock(entry.claimed.queue).charge(entry.claimed.user, seconds)

    def _clock(self, queue: str) -> FairClock:
        return self._clocks.setdefault(queue, FairClock())

"""Whatever becomes of bundles, in whatever order: every tile counts once, and the job ends exactly when all are finished."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.engine.ledger import Dispatch, Ledger
from scheduling.protocol.messages import Kind, Outcome
from scheduling.states import JobState
from tests.unit.engine.making import claimed, config, outcome, planned, raised

FATES = ("done", "done", "done", "part", "raise", "child dies", "lost", "late", "twice", "of another claim", "redis restarts")


@dataclass
class Workshop:
    """Workers without workers: a disk of finished tiles, and bundles that end as a draw says."""

    ledger: Ledger
    processes: int
    #: Finished tiles, by job.
    disk: dict[str, set[int]]
    total: int
    batch: int
    now: float = 0.0
    under_way: list[Dispatch] = field(default_factory=list)
    #: Outcomes that arrive after everybody has stopped waiting for them.
    late: list[Outcome] = field(default_factory=list)
    shown: Counter[str] = field(default_factory=Counter)
    dispatched: int = 0

    def send(self) -> None:
        """Dispatch what may go out and check it."""
        for sent in self.ledger.dispatch(self.now, {"cpu": self.processes}):
            self.under_way.append(sent)
            self.dispatched += 1
            assert not set(sent.bundle.tiles) & self._tiles_under_way(sent), "a tile is with two bundles"
        assert self.ledger.under_way == len(self.under_way)
        assert len({sent.parcel for sent in self.under_way}) <= 2 * self.processes

    def _tiles_under_way(self, new: Dispatch) -> set[int]:
        same = [sent for sent in self.under_way if sent is not new and sent.bundle.spec.id == new.bundle.spec.id]
        return {tile for sent in same for tile in sent.bundle.tiles}

    def end(self, sent: Dispatch, fate: str, *, part: int) -> None:
        """Let a bundle end."""
        self.under_way.remove(sent)
        if sent.bundle.kind is not Kind.TILES and fate in {"part", "raise", "child dies"}:
            fate = "done"
        getattr(self, "_" + fate.replace(" ", "_"))(sent, part)
        self._check_progress()

    def _done(self, sent: Dispatch, _: int) -> None:
        self.ledger.settle(self._carry_out(sent, len(sent.bundle.tiles)), self.now)

    def _part(self, sent: Dispatch, part: int) -> None:
        self.ledger.settle(self._carry_out(sent, min(part, len(sent.bundle.tiles))), self.now)

    def _twice(self, sent: Dispatch, _: int) -> None:
        done = self._carry_out(sent, len(sent.bundle.tiles))
        self.ledger.settle(done, self.now)
        stale = self.ledger.stale
        self.ledger.settle(done, self.now)
        assert self.ledger.stale == stale + 1

    def _raise(self, sent: Dispatch, part: int) -> None:
        tile = sent.bundle.tiles[min(part, len(sent.bundle.tiles) - 1)]
        before = [index for index in sent.bundle.tiles if index < tile]
        self.disk[sent.bundle.spec.id].update(before)
        self.ledger.settle(raised(sent, tile), self.now)

    def _child_dies(self, sent: Dispatch, part: int) -> None:
        self._carry_out(sent, min(part, len(sent.bundle.tiles)))
        self.ledger.settle(outcome(sent, is_lost=True), self.now)

    def _lost(self, sent: Dispatch, part: int) -> None:
        """With everything that travels in its parcel."""
        gone = [sent, *(other for other in self.under_way if other.parcel == sent.parcel)]
        for other in gone:
            self._carry_out(other, min(part, len(other.bundle.tiles)))
        self.under_way = [other for other in self.under_way if other not in gone]
        held = frozenset(other.parcel for other in self.under_way)
        assert sum(self.ledger.lose_unnamed(held, self.now + second) for second in range(11)) == len(gone)
        self.now += 10.0

    def _late(self, sent: Dispatch, part: int) -> None:
        self.late.append(self._carry_out(sent, len(sent.bundle.tiles)))
        self._lost(sent, part)

    def _of_another_claim(self, sent: Dispatch, _: int) -> None:
        self.ledger.settle(outcome(sent, epoch=sent.bundle.epoch - 1, done=sent.bundle.tiles), self.now)
        assert self.ledger.under_way == len(self.under_way) + 1
        self._done(sent, 0)

    def _redis_restarts(self, sent: Dispatch, _: int) -> None:
        self.late += [self._carry_out(other, len(other.bundle.tiles)) for other in [sent, *self.under_way]]
        self.under_way.clear()
        self.ledger.lose_everything()

    def _carry_out(self, sent: Dispatch, count: int) -> Outcome:
        """As a worker would: tiles to disk first, then the outcome."""
        job = sent.bundle.spec.id
        if sent.bundle.kind is Kind.PLAN:
            return planned(sent, self.total, sorted(self.disk[job]), batch=self.batch)
        if sent.bundle.kind is Kind.FINISH:
            assert self.disk[job] == set(range(self.total)), "artifacts of an unfinished job"
            return outcome(sent, artifacts=())
        done = sent.bundle.tiles[:count]
        self.disk[job].update(done)
        return outcome(sent, done=done)

    def settle_late(self) -> None:
        """What everybody has stopped waiting for arrives, and changes nothing."""
        before = [(entry.claimed.job, entry.done, entry.progress) for entry in self.ledger.planned()], self.ledger.under_way
        for found in self.late:
            self.ledger.settle(found, self.now)
        assert before == ([(entry.claimed.job, entry.done, entry.progress) for entry in self.ledger.planned()], self.ledger.under_way)
        self.late.clear()

    def _check_progress(self) -> None:
        for entry in self.ledger.planned():
            job = entry.claimed.spec.id
            assert self.shown[job] <= entry.progress <= self.total
            assert entry.done <= len(self.disk[job])
            assert entry.done + entry.todo + sum(mark == 1 for mark in entry.marks) == self.total
            self.shown[job] = entry.progress


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(0, 40), st.integers(1, 3), st.integers(1, 8), st.integers(1, 3))
def test_every_tile_counts_once_and_the_job_ends_when_all_are_finished(
    data: st.DataObject, total: int, jobs: int, batch: int, processes: int
) -> None:
    ledger = Ledger(config(tile_tries=10_000), 1)
    for job in range(jobs):
        ledger.add(claimed(job, user=job % 2, tiles=None))
    shop = Workshop(ledger=ledger, processes=processes, disk={f"uuid-{job}": set() for job in range(jobs)}, total=total, batch=batch)
    for step in range(25):
        shop.now += 0.1
        shop.send()
        if not shop.under_way:
            break
        sent = data.draw(st.sampled_from(shop.under_way), label="ends")
        shop.end(sent, data.draw(st.sampled_from(FATES), label="fate"), part=data.draw(st.integers(0, 4), label="tiles first"))
        if step % 5 == 0:
            shop.settle_late()
    while len(ledger.ends()) < jobs:
        shop.now += 10.0
        shop.send()
        assert shop.under_way, "work is left, and nothing is sent"
        for sent in list(shop.under_way):
            shop.end(sent, "done", part=0)
    shop.settle_late()
    assert all((end.state, end.tiles_processed, end.tiles_total) == (JobState.SUCCEEDED, total, total) for end in ledger.ends())
    assert not list(ledger.dispatch(shop.now + 100, {"cpu": processes}))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 400), st.integers(1, 8), st.integers(1, 4), st.lists(st.floats(0.0001, 2.0), min_size=1, max_size=5))
def test_bundles_are_whole_batches_that_at_most_double_and_share_the_tail(
    total: int, batch: int, processes: int, times: list[float]
) -> None:
    ledger = Ledger(config(), 1)
    ledger.add(claimed(tiles=total, batch=batch, seconds_per_tile=times[0]))
    last, n = 0, 0
    while not ledger.ends() and ledger.planned()[0].stage != "finish":
        # One at a time: the size follows from what is known when it is sent.
        for sent in ledger.dispatch(0.0, {"cpu": processes}):
            size, left = len(sent.bundle.tiles), ledger.planned()[0].todo
            assert size % batch == 0 or left == 0
            assert size <= max(batch, 2 * last)
            assert size <= max(batch, -(-(size + left) // processes))
            last = size
            ledger.settle(outcome(sent, done=sent.bundle.tiles, seconds=size * times[n % len(times)]), 0.0)
            n += 1
            break
    assert ledger.planned()[0].done == total


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.05, 0.6), min_size=8, max_size=60), st.integers(1, 3), st.integers(1, 3))
def test_two_users_share_the_workers_by_time_whatever_number_of_jobs_they_run(seconds: list[float], ones: int, twos: int) -> None:
    ledger = Ledger(config(), 1)
    for job in range(ones + twos):
        ledger.add(claimed(job, user=1 if job < ones else 2, tiles=10_000))
    got: Counter[str] = Counter()
    for cost in seconds:
        sent = next(ledger.dispatch(0.0, {"cpu": 1}))
        got[sent.bundle.spec.owner] += cost
        ledger.settle(outcome(sent, done=sent.bundle.tiles, seconds=cost), 0.0)
    assert abs(got["user-1"] - got["user-2"]) <= max(seconds) + 1e-9

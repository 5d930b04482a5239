"""What holds for every decision, whatever the facts; and what repeated decisions lead to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.engine.policy import Decisions, Limits, Snapshot, decide
from tests.unit.engine.making import NOW, head, limits, running, slot, waiting

QUEUES = st.sampled_from(["cpu", "cpu", "gpu"])


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Facts as the database can hold them: one head a lane, at most one running job a lane, a user active or waiting, not both."""
    users = range(1, draw(st.integers(1, 7)) + 1)
    active = draw(st.sets(st.sampled_from(users)))
    lanes = [(user, lane) for user in users for lane in range(draw(st.integers(0, 4)))]
    busy = [place for place in lanes if place[0] in active and draw(st.booleans())]
    ahead = [place for place in lanes if draw(st.booleans())]
    return Snapshot(
        slots=tuple(slot(user, can_run=draw(st.booleans()) and any(lane[0] == user for lane in ahead)) for user in sorted(active)),
        waiting=tuple(waiting(user, draw(st.integers(0, 3))) for user in users if user not in active),
        running=tuple(running(1000 + n, user, f"{user}/{lane}") for n, (user, lane) in enumerate(busy)),
        heads=tuple(head(n, user, f"{user}/{lane}", draw(QUEUES)) for n, (user, lane) in enumerate(ahead)),
        virtual_times={user: draw(st.floats(0, 100)) for user in users},
    )


BOUNDS = st.builds(limits, workers=st.integers(1, 6), users=st.integers(1, 4))


@settings(deadline=None, max_examples=100)
@given(snapshots(), BOUNDS)
def test_no_decision_ever_breaks_a_limit(facts: Snapshot, bounds: Limits) -> None:
    decisions = decide(facts, bounds, NOW)
    heads = {found.job: found for found in facts.heads}
    active = {found.user for found in facts.slots} - set(decisions.release) | set(decisions.admit)
    started = [heads[claim.job] for claim in decisions.claim]
    assert len(facts.running) + len(started) <= max(bounds.max_workers, len(facts.running))
    assert len(active) <= max(bounds.max_active_users, len(facts.slots))
    assert len({found.lane for found in [*facts.running, *started]}) == len(facts.running) + len(started)
    assert all(found.user in active and found.queue in bounds.queues for found in started)
    assert [claim.user for claim in decisions.claim] == [found.user for found in started]


@settings(max_examples=200, deadline=None)
@given(snapshots(), BOUNDS)
def test_admission_is_first_come_first_served_and_leaves_no_slot_free(facts: Snapshot, bounds: Limits) -> None:
    decisions = decide(facts, bounds, NOW)
    order = [found.user for found in sorted(facts.waiting, key=lambda found: (found.since, found.user))]
    kept = len(facts.slots) - len(decisions.release)
    assert list(decisions.admit) == order[: max(0, bounds.max_active_users - kept)]
    at_work = {found.user for found in facts.running}
    assert set(decisions.release) == {found.user for found in facts.slots if not found.can_run} - at_work


@settings(max_examples=150, deadline=None)
@given(snapshots(), BOUNDS)
def test_each_place_goes_to_an_able_user_with_the_fewest_running_jobs_and_to_the_oldest_head(facts: Snapshot, bounds: Limits) -> None:
    decisions = decide(facts, bounds, NOW)
    active = {found.user for found in facts.slots} - set(decisions.release) | set(decisions.admit)
    busy = {found.lane for found in facts.running}
    able = {found.job: found for found in facts.heads if found.user in active and found.queue in bounds.queues and found.lane not in busy}
    counts = Counter(found.user for found in facts.running)
    for claim in decisions.claim:
        assert counts[claim.user] == min(counts[found.user] for found in able.values())
        assert claim.job == min(found.job for found in able.values() if found.user == claim.user)
        counts[claim.user] += 1
        del able[claim.job]
    assert not able or sum(counts.values()) >= bounds.max_workers


@settings(deadline=None)
@given(snapshots(), BOUNDS, st.randoms())
def test_the_same_facts_in_any_order_give_the_same_decisions(facts: Snapshot, bounds: Limits, random: object) -> None:
    shuffled = {name: list(getattr(facts, name)) for name in ("slots", "waiting", "heads", "running")}
    for rows in shuffled.values():
        random.shuffle(rows)  # type: ignore[attr-defined]
    again = decide(Snapshot(**{name: tuple(rows) for name, rows in shuffled.items()}, virtual_times=facts.virtual_times), bounds, NOW)  # type: ignore[arg-type]
    first = decide(facts, bounds, NOW)
    assert (set(again.release), again.admit, again.claim) == (set(first.release), first.admit, first.claim)


@dataclass
class House:
    """A tiny world that carries out decisions: users with lanes of jobs, each ending when a random draw says so."""

    #: By lane (user, number): the jobs not yet started, in order.
    lanes: dict[tuple[int, int], list[int]]
    bounds: Limits
    slots: list[int] = field(default_factory=list)
    running: dict[int, tuple[int, int]] = field(default_factory=dict)
    started: list[int] = field(default_factory=list)
    log: list[tuple[str, int]] = field(default_factory=list)

    def unfinished(self, user: int) -> int:
        """Jobs of this user that have not ended."""
        waits = sum(len(jobs) for lane, jobs in self.lanes.items() if lane[0] == user)
        return waits + sum(lane[0] == user for lane in self.running.values())

    def snapshot(self) -> Snapshot:
        """The facts."""
        users = sorted({lane[0] for lane in self.lanes})
        free = {lane: jobs for lane, jobs in self.lanes.items() if jobs and lane not in self.running.values()}
        return Snapshot(
            slots=tuple(slot(user, can_run=self.unfinished(user) > 0) for user in self.slots),
            waiting=tuple(waiting(user, user) for user in users if user not in self.slots and self.unfinished(user)),
            running=tuple(running(job, lane[0], str(lane)) for job, lane in self.running.items()),
            heads=tuple(head(jobs[0], lane[0], str(lane)) for lane, jobs in free.items()),
        )

    def apply(self, decisions: Decisions) -> None:
        """Do what was decided, in the order in which the store does it."""
        for user in decisions.release:
            assert not self.unfinished(user)
            self.slots.remove(user)
        self.slots.extend(decisions.admit)
        self.log += [("admitted", user) for user in decisions.admit]
        for claim in decisions.claim:
            lane = next(lane for lane, jobs in self.lanes.items() if jobs and jobs[0] == claim.job)
            self.running[self.lanes[lane].pop(0)] = lane
            self.started.append(claim.job)
        assert len(self.running) <= self.bounds.max_workers
        assert len(self.slots) <= self.bounds.max_active_users
        assert len(set(self.running.values())) == len(self.running)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=1, max_size=6), BOUNDS, st.data())
def test_every_job_runs_once_in_order_and_a_slot_is_kept_until_all_of_its_users_jobs_have_ended(
    work: list[list[int]], bounds: Limits, data: st.DataObject
) -> None:
    keys = iter(range(10_000))
    lanes = {(user, n): [next(keys) for _ in range(length)] for user, lengths in enumerate(work) for n, length in enumerate(lengths)}
    order = {lane: list(jobs) for lane, jobs in lanes.items()}
    house = House(lanes=lanes, bounds=bounds)
    rounds = 0
    while any(house.unfinished(user) for user in range(len(work))):
        house.apply(decide(house.snapshot(), bounds, NOW))
        assert house.running, "nothing runs although there is work: starvation"
        ended = data.draw(st.sampled_from(sorted(house.running)))
        del house.running[ended]
        rounds += 1
    assert rounds == sum(len(jobs) for jobs in order.values())
    assert sorted(house.started) == sorted(job for jobs in order.values() for job in jobs)
    assert all([job for job in house.started if job in jobs] == jobs for jobs in order.values())
    assert house.log == [("admitted", user) for user in range(len(work))]

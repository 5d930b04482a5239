"""The product's policy in virtual time: fair, busy, without thrashing, the same again for the same seed, and by its own log right."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from math import inf
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.audit.checker import Checker
from scheduling.audit.log_event import LogEvent
from scheduling.engine.policy import FairClock
from scheduling.simulator.books import BEGAN
from scheduling.simulator.figures import Figures, jain, least_makespan_s, quantile
from scheduling.simulator.lab import Lab, simulate
from scheduling.simulator.scenario import JobPlan, Scenario, Submission
from scheduling.simulator.scenarios import SCENARIOS, make
from scheduling.states import JobState

QUICK = sorted(set(SCENARIOS) - {"million"})
#: Bundles are not divided: what one process can have too much at most, times the processes.
BUNDLES_S = 0.5


def run(scenario: Scenario, seed: int = 1) -> tuple[Figures, Lab, list[LogEvent]]:
    """Figures, how everything stands, the log."""
    log: list[LogEvent] = []
    lab = Lab(scenario, seed, log.append)
    return lab.run(), lab, log


def assert_right(log: list[LogEvent]) -> None:
    """The checker finds nothing, and nothing unfinished."""
    checker = Checker()
    assert [*checker.read(log), *checker.finish(must_be_finished=True)] == []


@pytest.mark.parametrize("name", QUICK)
def test_every_scenario_is_fair_busy_and_right(name: str) -> None:
    scenario = make(name, 1)
    figures, lab, log = run(scenario)
    assert figures.jain >= 0.98
    breaks = name == "failures"
    assert figures.worst_lag_s <= BUNDLES_S * scenario.processes * (3 if breaks else 1)
    assert figures.makespan_ratio <= (1.5 if breaks else 1.1)
    assert figures.tiles == scenario.tiles
    assert {job.state for job in lab.books.jobs.values()} == {JobState.SUCCEEDED}
    assert_right(log)


@pytest.mark.parametrize("name", ["paper", "burst", "greedy", "zipf", "million"])
def test_taking_back_never_becomes_a_loop(name: str) -> None:
    scenario = make(name, 2)
    scenario = replace(scenario, submissions=scenario.submissions[:30])
    arrivals = len(scenario.submissions)
    assert run(scenario)[0].taken_back <= arrivals


def test_a_users_time_with_a_slot_ends_only_once_a_turn() -> None:
    scenario = make("tenure", 1)
    figures = run(scenario)[0]
    turns = figures.makespan_s / scenario.slot_max_s * scenario.max_users
    assert figures.taken_back <= turns * scenario.max_workers


def test_a_colleague_of_a_greedy_user_gets_the_first_tile_within_a_second() -> None:
    _, lab, _ = run(make("greedy", 1))
    firsts = {user: min((job.begun_s or 0.0) - job.submitted_s for job in lab.books.jobs.values() if job.user == user) for user in (2, 3)}
    assert max(firsts.values()) < 1.0


def test_work_without_workers_holds_a_slot_for_a_minute_and_goes_on_in_order_when_they_are_back() -> None:
    _, lab, log = run(make("device", 1))
    told = [(event.at - BEGAN, event.type.removeprefix("user."), event.user) for event in log if event.user in {1, 2}]
    moves = [(round(at.total_seconds()), kind, user) for at, kind, user in told if kind in {"admitted", "released"}]
    gone = moves[2][0]
    assert moves[:4] == [(0, "admitted", 2), (0, "admitted", 1), (gone, "released", 2), (gone, "released", 1)]
    assert 80 < gone < 90, "away from 20 s on, unheard of after 25 s, given up a minute later"
    assert moves[4][:2] == (200, "admitted")
    assert any(event.type == "user.admitted" and event.user in {3, 4, 5} and event.at - BEGAN == timedelta(seconds=gone) for event in log)
    assert min(job.begun_s or 0.0 for job in lab.books.jobs.values() if job.plan.queue == "gpu") < 20.0


def test_a_weight_of_four_gets_four_times_as_much_while_all_have_work() -> None:
    lab = Lab(make("weights", 1), 1)
    lab.run()
    ended = max(job.ended_s or 0.0 for job in lab.books.jobs.values() if job.user == 3)
    alone = sum(job.plan.tiles * job.plan.seconds_per_tile for job in lab.books.jobs.values() if job.user == 3)
    assert alone / (lab.scenario.processes * ended) == pytest.approx(4 / 7, rel=0.05)


def beginning_of(name: str, seed: int) -> Scenario:
    """Its first ten submissions."""
    scenario = make(name, seed)
    return replace(scenario, submissions=scenario.submissions[:10])


@pytest.mark.parametrize("name", ["paper", "failures", "many-users"])
def test_the_same_seed_gives_the_same_figures_and_log_and_another_seed_others(name: str) -> None:
    first, again, other = run(beginning_of(name, 5), 5), run(beginning_of(name, 5), 5), run(beginning_of(name, 6), 6)
    assert (first[0], first[2]) == (again[0], again[2])
    assert first[0] != other[0]


def test_an_unfair_choice_of_the_next_user_is_seen_in_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FairClock, "next_of", lambda self, users: min(users))
    figures = simulate(make("greedy", 1), 1)
    assert figures.jain < 0.9
    assert figures.worst_lag_s > 50


def test_a_crash_of_the_leader_neither_forgives_nor_loses_anything() -> None:
    scenario = make("failures", 3)
    figures, _, log = run(scenario, 3)
    assert sum(event.type == "leader.elected" for event in log) > 3
    assert any(event.type == "job.taken_over" for event in log)
    assert (figures.failed_jobs, figures.tiles) == (0, scenario.tiles)
    assert figures.jain >= 0.98


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 4), st.integers(1, 5), st.sampled_from([0.0, 5.0]))
def test_whatever_is_submitted_ends_once_and_by_the_rules(seed: int, users: int, workers: int, slots: int, slot_max_s: float) -> None:
    random = Random(seed)
    flows = tuple(
        Submission(
            at_s=random.random() * 20,
            user=random.randint(1, users),
            jobs=tuple(
                JobPlan(
                    branch=f"b{random.randint(0, 2)}",
                    tiles=random.randint(0, 60),
                    seconds_per_tile=random.choice([0.01, 0.1, 0.6]),
                    queue=random.choice(["cpu", "cpu", "gpu"]),
                )
                for _ in range(random.randint(1, 5))
            ),
        )
        for _ in range(random.randint(1, 8))
    )
    back_s = random.uniform(20.0, 200.0)
    machine: dict[str, Any] = {"max_workers": workers, "processes": workers, "gpu_s": ((5.0, 10.0), (back_s, inf))}
    scenario = Scenario(name="any", submissions=flows, max_users=slots, slot_max_s=slot_max_s, **machine)
    _, lab, log = run(scenario, seed)
    assert {job.state for job in lab.books.jobs.values()} == {JobState.SUCCEEDED}
    assert_right(log)


def test_the_figures_formulas() -> None:
    assert (jain([1, 1, 1]), jain([3, 0, 0]), jain([])) == (1.0, pytest.approx(1 / 3), 1.0)
    assert (quantile([3, 1, 2], 0.5), quantile([1, 2, 3, 4], 0.95), quantile([7], 0.95)) == (2, 4, 7)
    early = Submission(at_s=0, user=1, jobs=(JobPlan(branch="b", tiles=10, seconds_per_tile=1.0),))
    late = Submission(at_s=100, user=1, jobs=(JobPlan(branch="b", tiles=4, seconds_per_tile=1.0),))
    assert least_makespan_s(Scenario(name="x", submissions=(early, late), processes=2)) == 102.0

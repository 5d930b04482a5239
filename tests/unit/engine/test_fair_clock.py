"""Shares of the workers between users: virtual time by worker-seconds and weight."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.engine.policy import FairClock


def serve(clock: FairClock, users: list[int], costs: list[float]) -> dict[int, float]:
    """Worker-seconds that each user gets when bundles of these costs are given out one by one."""
    got = dict.fromkeys(users, 0.0)
    for cost in costs:
        clock.contend(users)
        user = clock.next_of(users)
        clock.charge(user, cost)
        got[user] += cost
    return got


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.01, 2.0), min_size=1, max_size=60))
def test_two_users_of_equal_weight_get_the_same_within_one_bundle(costs: list[float]) -> None:
    got = serve(FairClock(), [1, 2], costs)
    assert abs(got[1] - got[2]) <= max(costs) + 1e-9


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.01, 2.0), min_size=1, max_size=60), st.sampled_from([0.5, 2.0, 3.0]))
def test_a_users_share_follows_the_weight_within_one_bundle(costs: list[float], weight: float) -> None:
    clock = FairClock()
    clock.set_weight(2, weight)
    got = serve(clock, [1, 2], costs)
    assert abs(got[1] - got[2] / weight) <= max(costs) * max(1.0, 1 / weight) + 1e-9


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=40), st.lists(st.floats(0.01, 1.0), min_size=1, max_size=40))
def test_a_newcomer_has_no_credit_for_the_time_before(before: list[float], after: list[float]) -> None:
    clock = FairClock()
    serve(clock, [1], before)
    got = serve(clock, [1, 2], after)
    assert got[2] - got[1] <= max(after) + 1e-9


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.01, 1.0), min_size=2, max_size=40), st.integers(1, 20))
def test_who_was_away_comes_back_without_credit(costs: list[float], rounds: int) -> None:
    clock = FairClock()
    serve(clock, [1, 2], costs)
    serve(clock, [1], [1.0] * rounds)
    got = serve(clock, [1, 2], [0.5] * 10)
    assert got[2] - got[1] <= 0.5 + max(costs) + 1e-9


def test_debt_is_not_forgiven_by_going_away() -> None:
    clock = FairClock()
    clock.contend([1, 2])
    clock.charge(1, 10.0)
    clock.contend([2])
    clock.contend([1, 2])
    assert clock.times[1] == 10.0
    assert serve(clock, [1, 2], [1.0] * 10) == {1: 0.0, 2: 10.0}


def test_a_guess_is_corrected_when_the_bundle_ends() -> None:
    clock = FairClock()
    clock.set_weight(1, 2.0)
    clock.charge(1, 5.0)
    clock.charge(1, 1.0 - 5.0)
    assert clock.times == {1: 0.5}


def test_the_lower_key_goes_first_among_equals() -> None:
    assert FairClock().next_of([3, 2, 7]) == 2


def test_nobody_is_next_when_nobody_has_work() -> None:
    with pytest.raises(ValueError, match="empty"):
        FairClock().next_of([])


def test_everybody_leaving_does_not_turn_the_clock_back() -> None:
    clock = FairClock()
    serve(clock, [1], [4.0, 4.0])
    clock.contend([1])
    clock.contend([])
    clock.contend([2])
    assert clock.times[2] == 8.0

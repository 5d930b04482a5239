"""A restart of the scheduler neither forgives what a user has had nor gives credit to one who comes after it."""

from __future__ import annotations

from collections import Counter

from scheduling.engine.ledger import Ledger
from tests.unit.engine.making import claimed, config


def first_bundles(ledger: Ledger, count: int) -> Counter[int]:
    """Whose the first bundles are when only so many fit."""
    sent = ledger.dispatch(0.0, {"cpu": count // 2})
    return Counter(ledger_user(dispatch.bundle.spec.owner) for dispatch in sent)


def ledger_user(owner: str) -> int:
    return int(owner.rpartition("-")[2])


def test_a_user_in_debt_is_in_debt_under_the_next_leader() -> None:
    ledger = Ledger(config(), term=2)
    ledger.begin([claimed(1, user=1, tiles=1000), claimed(2, user=2, tiles=1000)], {(1, "cpu"): 100.0, (2, "cpu"): 0.0})
    assert first_bundles(ledger, 8) == {2: 8}


def test_a_newcomer_after_a_restart_gets_no_credit_for_the_time_before_it() -> None:
    ledger = Ledger(config(), term=2)
    ledger.begin([claimed(1, user=1, tiles=1000)], {(1, "cpu"): 100.0})
    ledger.add(claimed(2, user=2, tiles=1000))
    assert first_bundles(ledger, 8) == {1: 4, 2: 4}


def test_the_clocks_of_queues_are_kept_apart() -> None:
    ledger = Ledger(config(), term=2)
    shares = {(1, "cpu"): 5.0, (1, "gpu"): 7.0, (2, "gpu"): 1.0}
    ledger.begin([], shares)
    assert ledger.shares() == shares

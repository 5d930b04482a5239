"""Rules of lanes, active users and workers, one row a sentence."""

from __future__ import annotations

import pytest

from scheduling.engine.policy import Decisions, Situation, Snapshot, decide, waiting_reason
from tests.unit.engine.making import CPU, NOW, head, limits, running, slot, waiting


def claims(decisions: Decisions) -> list[int]:
    """The jobs to be started, in order."""
    return [claim.job for claim in decisions.claim]


def test_nothing_is_decided_when_there_is_nothing() -> None:
    assert decide(Snapshot(), limits(), NOW) == Decisions()


def test_a_user_without_unfinished_work_gives_the_slot_up_and_the_first_in_the_queue_gets_it() -> None:
    facts = Snapshot(slots=(slot(1, can_run=False), slot(2)), waiting=(waiting(3, 5), waiting(4, 6)), heads=(head(30, 3), head(40, 4)))
    decisions = decide(facts, limits(users=2), NOW)
    assert (decisions.release, decisions.admit) == ((1,), (3,))
    assert claims(decisions) == [30]


@pytest.mark.parametrize(
    ("queue", "free", "admitted"),
    [
        pytest.param([waiting(1, 3), waiting(2, 1), waiting(3, 2)], 2, (2, 3), id="the longest waiting come first, whatever their keys"),
        pytest.param([waiting(9, 1), waiting(2, 1)], 1, (2,), id="who began to wait at the same moment goes by key"),
        pytest.param([waiting(1)], 0, (), id="nobody is admitted when every slot is held"),
        pytest.param([waiting(1), waiting(2)], 5, (1, 2), id="more slots than users admit everybody"),
    ],
)
def test_users_are_admitted_first_come_first_served(queue: list, free: int, admitted: tuple[int, ...]) -> None:
    held = tuple(slot(100 + n) for n in range(2))
    assert decide(Snapshot(slots=held, waiting=tuple(queue)), limits(users=2 + free), NOW).admit == admitted


def test_more_slots_than_the_limit_admit_nobody_and_take_nothing_away() -> None:
    facts = Snapshot(slots=(slot(1), slot(2), slot(3)), waiting=(waiting(4),), heads=(head(1, 3),))
    decisions = decide(facts, limits(users=2), NOW)
    assert (decisions.release, decisions.admit, claims(decisions)) == ((), (), [1])


@pytest.mark.parametrize(
    ("facts", "workers", "claimed"),
    [
        pytest.param(Snapshot(slots=(slot(1),), heads=(head(2, 1), head(1, 1))), 4, [1, 2], id="a user's oldest head goes first"),
        pytest.param(Snapshot(heads=(head(1, 1),)), 4, [], id="who has no slot gets nothing"),
        pytest.param(Snapshot(slots=(slot(1),), heads=(head(1, 1, queue="gpu"),)), 4, [], id="a queue without a worker starts nothing"),
        pytest.param(
            Snapshot(slots=(slot(1),), heads=(head(1, 1, queue="gpu"), head(2, 1))), 1, [2], id="what cannot start takes nobody's place"
        ),
        pytest.param(
            Snapshot(slots=(slot(1),), running=(running(1, 1, "a"),), heads=(head(2, 1, "a"),)),
            4,
            [],
            id="a lane that runs a job starts none",
        ),
        pytest.param(
            Snapshot(slots=(slot(1),), running=(running(5, 1, "a"),), heads=(head(2, 1, "a"), head(6, 1, "b"))),
            4,
            [6],
            id="a retried job waits for the later one that runs in its lane, other lanes do not",
        ),
        pytest.param(Snapshot(slots=(slot(1),), running=(running(1, 1), running(2, 1)), heads=(head(3, 1),)), 2, [], id="no place is free"),
        pytest.param(
            Snapshot(slots=(slot(1),), running=(running(1, 1), running(2, 1), running(3, 1)), heads=(head(4, 1),)),
            2,
            [],
            id="more running than allowed, after the limit was lowered, start nothing",
        ),
        pytest.param(
            Snapshot(slots=(slot(1), slot(2)), running=(running(1, 1),), heads=(head(2, 1), head(9, 2))),
            2,
            [9],
            id="a free place goes to the user with the fewest running jobs, not to the oldest job",
        ),
        pytest.param(
            Snapshot(slots=(slot(1), slot(2)), heads=(head(1, 1), head(2, 1), head(3, 1), head(8, 2), head(9, 2))),
            4,
            [1, 8, 2, 9],
            id="users take turns",
        ),
        pytest.param(
            Snapshot(slots=(slot(1), slot(2)), heads=(head(1, 1), head(2, 2)), virtual_times={1: 8.0, 2: 3.0}),
            1,
            [2],
            id="among equals the one who has used less goes first",
        ),
        pytest.param(
            Snapshot(slots=(slot(1),), waiting=(waiting(2),), heads=(head(1, 2),)), 4, [1], id="a user admitted now starts in the same pass"
        ),
        pytest.param(Snapshot(slots=(slot(1, can_run=False),), heads=(head(1, 1),)), 4, [], id="a slot given up starts nothing any more"),
    ],
)
def test_free_places_are_given_out(facts: Snapshot, workers: int, claimed: list[int]) -> None:
    assert claims(decide(facts, limits(workers=workers), NOW)) == claimed


def test_every_claim_says_why_it_was_its_turn() -> None:
    facts = Snapshot(slots=(slot(1),), running=(running(1, 1),), heads=(head(2, 1),))
    (claim,) = decide(facts, limits(), NOW).claim
    assert claim.reason == "head of its branch; its user had 1 jobs running"


def situation(**changes: object) -> Situation:
    """A job that only waits for a worker, with some of that changed."""
    base = {"is_scheduler_alive": True, "is_paused": False, "behind": None, "user_position": None, "queue": "cpu", "queues_served": CPU}
    return Situation(**{**base, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({}, "waiting for a worker"),
        ({"is_paused": True, "behind": ("j1", "b"), "user_position": (1, 2)}, "paused"),
        ({"is_paused": True, "is_scheduler_alive": False}, "scheduler is not running"),
        ({"queues_served": frozenset()}, "waiting for a worker"),
        ({"queue": "gpu"}, "waiting for a gpu worker"),
        ({"queue": "gpu", "queues_served": frozenset({"gpu"})}, "waiting for a worker"),
        ({"user_position": (2, 5)}, "waiting for a user slot, position 2 of 5"),
        ({"behind": ("j1", "b1")}, "behind job j1 in branch b1"),
        ({"behind": ("j1", "b1"), "user_position": (2, 5)}, "behind job j1 in branch b1"),
        ({"needs": "j3", "user_position": (2, 5)}, "waiting for job j3"),
        ({"needs": "j3", "behind": ("j1", "b1")}, "behind job j1 in branch b1"),
        ({"needs": "j3", "is_paused": True}, "paused"),
        ({"user_position": (1, 1), "queue": "gpu"}, "waiting for a user slot, position 1 of 1"),
        ({"is_scheduler_alive": False, "behind": ("j1", "b1"), "user_position": (2, 5)}, "scheduler is not running"),
    ],
)
def test_the_reason_for_waiting_names_what_must_happen_first(facts: dict[str, object], reason: str) -> None:
    assert waiting_reason(situation(**facts)) == reason

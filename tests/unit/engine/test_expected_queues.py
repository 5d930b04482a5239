"""For the work of which queues slots are given, and what becomes of a user of whose work nothing can run."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scheduling.engine.policy import ExpectedQueues, Snapshot, decide
from tests.unit.engine.making import CPU, NOW, head, limits, running, slot, waiting

BOTH = frozenset({"cpu", "gpu"})
looks = st.lists(st.tuples(st.sets(st.sampled_from(sorted(BOTH))), st.floats(0, 90)), max_size=20)


def seen(*looks: tuple[set[str], float], first: frozenset[str] = BOTH) -> frozenset[str]:
    """What is expected after looks at (queues served, seconds), with a patience of 60 s."""
    expected = ExpectedQueues(first, 0.0, 60.0)
    for served, now in looks:
        expected.look(served, now)
    return expected.queues


def test_a_queue_is_expected_from_its_first_worker_on() -> None:
    assert seen(({"cpu"}, 1.0), first=CPU) == CPU
    assert seen(({"cpu", "gpu"}, 1.0), first=CPU) == BOTH


def test_a_worker_that_is_started_again_changes_nothing() -> None:
    assert seen(({"cpu"}, 1.0), ({"cpu"}, 59.0), ({"cpu", "gpu"}, 59.5), ({"cpu"}, 110.0)) == BOTH


def test_a_queue_without_workers_for_a_minute_is_given_up_also_that_of_the_cpu() -> None:
    assert seen(({"cpu", "gpu"}, 10.0), ({"cpu"}, 70.0)) == BOTH
    assert seen(({"cpu", "gpu"}, 10.0), ({"cpu"}, 70.1)) == CPU
    assert seen(({"cpu", "gpu"}, 10.0), ({"gpu"}, 70.1)) == {"gpu"}


def test_where_no_worker_is_seen_nothing_is_given_up_and_the_minute_begins_anew() -> None:
    silence = [(set[str](), float(second)) for second in range(1, 300)]
    assert seen(*silence) == BOTH
    assert seen(*silence, ({"cpu"}, 301.0), ({"cpu"}, 355.0)) == BOTH
    assert seen(*silence, ({"cpu"}, 301.0), ({"cpu"}, 360.0)) == CPU


def test_a_leader_that_begins_waits_a_minute_for_what_was_expected_before_it() -> None:
    assert seen(({"cpu"}, 0.0), ({"cpu"}, 60.0)) == BOTH
    assert seen(({"cpu"}, 0.0), ({"cpu"}, 60.1)) == CPU


@given(looks)
def test_what_is_served_is_expected_and_something_always_is(steps: list[tuple[set[str], float]]) -> None:
    expected, now, last = ExpectedQueues(CPU, 0.0, 60.0), 0.0, CPU
    for served, seconds in steps:
        now += seconds
        expected.look(served, now)
        assert served <= expected.queues <= served | last
        assert expected.queues
        last = expected.queues


# -- slots


def test_a_slot_with_nothing_that_can_run_goes_to_the_first_user_with_something() -> None:
    facts = Snapshot(slots=(slot(1, can_run=False),), waiting=(waiting(2),), heads=(head(9, 2),))
    decisions = decide(facts, limits(users=1), NOW)
    assert (decisions.release, decisions.admit, [claim.job for claim in decisions.claim]) == ((1,), (2,), [9])


def test_a_slot_follows_the_job_whose_workers_are_gone_until_it_is_back() -> None:
    facts = Snapshot(slots=(slot(1, can_run=False),), waiting=(waiting(2),), running=(running(5, 1, queue="gpu"),), heads=(head(9, 2),))
    decisions = decide(facts, limits(users=1), NOW)
    assert (decisions.release, decisions.admit) == ((), ())
    assert [(back.job, back.reason) for back in decisions.preempt] == [(5, "no gpu worker is left")]


def test_jobs_of_the_cpu_are_taken_back_only_when_its_workers_are_expected_no_more() -> None:
    facts = Snapshot(slots=(slot(1), slot(2)), running=(running(5, 1), running(6, 2, queue="gpu")))
    only_gpu = frozenset({"gpu"})
    assert not decide(facts, limits(queues=only_gpu, expected=BOTH), NOW).preempt
    assert [back.job for back in decide(facts, limits(queues=only_gpu, expected=only_gpu), NOW).preempt] == [5]
    assert not decide(facts, limits(queues=frozenset(), expected=only_gpu), NOW).preempt

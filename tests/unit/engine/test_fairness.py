"""Taking places and slots back: preemption, tenure, pause. One test a sentence of the rules, then what holds for all facts."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.engine.policy import Decisions, Head, Limits, Running, Snapshot, decide
from tests.unit.engine.making import NOW, head, limits, running, slot, waiting


def taken_back(decisions: Decisions) -> list[int]:
    """The jobs to be taken back, in order."""
    return [preemption.job for preemption in decisions.preempt]


# -- preemption


def test_a_user_without_a_running_job_takes_the_place_of_the_youngest_job_of_the_user_with_most() -> None:
    facts = Snapshot(
        slots=(slot(1), slot(2), slot(3)), running=(running(1, 1), running(2, 2), running(3, 1), running(4, 1)), heads=(head(9, 3),)
    )
    decisions = decide(facts, limits(workers=4), NOW)
    assert taken_back(decisions) == [4]
    assert decisions.preempt[0].reason == "its user had 3 jobs running and another active user none"
    assert not decisions.claim


def test_a_job_whose_kind_of_worker_is_gone_waits_again_and_frees_its_place() -> None:
    facts = Snapshot(slots=(slot(1),), running=(running(1, 1, queue="gpu"), running(2, 1)))
    (back,) = decide(facts, limits(), NOW).preempt
    assert (back.job, back.reason) == (1, "no gpu worker is left")
    assert not decide(facts, limits(queues=frozenset({"cpu", "gpu"})), NOW).preempt
    assert not decide(facts, limits(queues=frozenset()), NOW).preempt, "no worker is seen at all: Redis may be away"
    on_its_way = replace(facts, running=(running(1, 1, queue="gpu", is_yielding=True), running(2, 1)))
    assert not decide(on_its_way, limits(), NOW).preempt


def test_the_place_of_such_a_job_is_enough_for_a_user_without_one() -> None:
    facts = Snapshot(slots=(slot(1), slot(2)), running=(running(1, 1, queue="gpu"), running(2, 1)), heads=(head(9, 2),))
    assert taken_back(decide(facts, limits(workers=2), NOW)) == [1]


def test_nobody_is_preempted_while_a_place_is_free() -> None:
    facts = Snapshot(slots=(slot(1), slot(2)), running=(running(1, 1), running(2, 1)), heads=(head(9, 2),))
    decisions = decide(facts, limits(workers=3), NOW)
    assert not decisions.preempt
    assert [claim.job for claim in decisions.claim] == [9]


def test_the_last_running_job_of_a_user_is_never_taken() -> None:
    facts = Snapshot(slots=(slot(1), slot(2), slot(3)), running=(running(1, 1), running(2, 2)), heads=(head(9, 3),))
    assert not decide(facts, limits(workers=2), NOW).preempt


def test_a_job_on_its_way_back_counts_as_the_place_that_was_asked_for() -> None:
    facts = Snapshot(slots=(slot(1), slot(2)), running=(running(1, 1), running(2, 1), running(3, 1, is_yielding=True)), heads=(head(9, 2),))
    assert not decide(facts, limits(workers=3), NOW).preempt


def test_two_users_in_need_get_two_places() -> None:
    facts = Snapshot(
        slots=(slot(1), slot(2), slot(3)),
        running=tuple(running(job, 1) for job in (1, 2, 3, 4)),
        heads=(head(8, 2), head(9, 3), head(10, 3)),
    )
    assert taken_back(decide(facts, limits(workers=4), NOW)) == [4, 3]


def test_a_user_whose_work_cannot_start_takes_no_place() -> None:
    facts = Snapshot(slots=(slot(1), slot(2)), running=(running(1, 1), running(2, 1)), heads=(head(9, 2, queue="gpu"), head(10, 7)))
    assert not decide(facts, limits(workers=2), NOW).preempt


# -- tenure


def test_a_slot_is_kept_without_end_while_nobody_waits() -> None:
    facts = Snapshot(slots=(slot(1, held_s=99999),), running=(running(1, 1),))
    decisions = decide(facts, limits(users=1, slot_max_s=10), NOW)
    assert decisions == Decisions()


def test_a_slot_is_kept_for_its_time_and_with_0_for_ever() -> None:
    facts = Snapshot(slots=(slot(1, held_s=9),), waiting=(waiting(2),), running=(running(1, 1),))
    assert decide(facts, limits(users=1, slot_max_s=10), NOW) == Decisions()
    assert decide(facts, limits(users=1, slot_max_s=0), NOW) == Decisions()


def test_when_time_is_over_the_users_jobs_are_taken_back_first_and_nothing_of_theirs_starts() -> None:
    facts = Snapshot(
        slots=(slot(1, held_s=11),), waiting=(waiting(2),), running=(running(1, 1), running(2, 1)), heads=(head(3, 1), head(9, 2))
    )
    decisions = decide(facts, limits(users=1, slot_max_s=10), NOW)
    assert taken_back(decisions) == [1, 2]
    assert (decisions.requeue, decisions.admit, decisions.claim) == ((), (), ())


def test_when_nothing_of_theirs_runs_any_more_the_next_user_enters_in_the_same_pass() -> None:
    facts = Snapshot(slots=(slot(1, held_s=11),), waiting=(waiting(2),), heads=(head(3, 1), head(9, 2)))
    decisions = decide(facts, limits(users=1, slot_max_s=10), NOW)
    assert (decisions.requeue, decisions.admit) == ((1,), (2,))
    assert [claim.job for claim in decisions.claim] == [9]


def test_no_more_users_leave_than_wait_in_vain_the_longest_there_first() -> None:
    facts = Snapshot(slots=(slot(1, held_s=20), slot(2, held_s=30), slot(3, held_s=1)), waiting=(waiting(4),))
    assert decide(facts, limits(users=3, slot_max_s=10), NOW).requeue == (2,)
    assert decide(facts, limits(users=4, slot_max_s=10), NOW).requeue == ()


# -- pause


def test_running_jobs_of_a_paused_workflow_are_taken_back() -> None:
    facts = Snapshot(
        slots=(slot(1),), running=(running(1, 1, is_paused=True), running(2, 1), running(3, 1, is_paused=True, is_yielding=True))
    )
    assert taken_back(decide(facts, limits(), NOW)) == [1]


# -- whatever the facts


@st.composite
def crowded(draw: st.DrawFn) -> tuple[Snapshot, Limits]:
    """Active users with running jobs in every place, and heads that wait."""
    workers, users = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    bounds = limits(workers=workers, users=min(users, workers))
    active = list(range(1, bounds.max_active_users + 1))
    jobs = [running(n, draw(st.sampled_from(active))) for n in range(workers)]
    heads = [head(100 + n, draw(st.sampled_from(active))) for n in range(draw(st.integers(0, 8)))]
    return Snapshot(slots=tuple(slot(user) for user in active), running=tuple(jobs), heads=tuple(heads)), bounds


@settings(deadline=None)
@given(crowded())
def test_preemption_ends_with_a_job_for_everybody_and_never_turns_in_circles(case: tuple[Snapshot, Limits]) -> None:
    facts, bounds = case
    taken: list[int] = []
    for _ in range(2 * bounds.max_workers + 1):
        decisions = decide(facts, bounds, NOW)
        if not decisions.preempt and not decisions.claim:
            break
        taken += taken_back(decisions)
        facts = after(facts, decisions)
    else:
        raise AssertionError("the places go round and round")
    running_now = Counter(job.user for job in facts.running)
    assert all(running_now[user] for user in {waits.user for waits in facts.heads}), "a user with work has no running job"
    assert len(taken) == len(set(taken)), "a job was taken back twice"


def after(facts: Snapshot, decisions: Decisions) -> Snapshot:
    """The facts when what was decided has come about: jobs taken back wait as heads, claimed ones run."""
    back = set(taken_back(decisions))
    claimed = {claim.job for claim in decisions.claim}
    waits: list[Head] = [h for h in facts.heads if h.job not in claimed] + [
        head(r.job, r.user, r.lane) for r in facts.running if r.job in back
    ]
    newest = max((r.epoch for r in facts.running), default=0)
    runs: list[Running] = [r for r in facts.running if r.job not in back]
    runs += [running(h.job, h.user, h.lane, epoch=newest + 1) for h in facts.heads if h.job in claimed]
    return Snapshot(slots=facts.slots, running=tuple(runs), heads=tuple(waits))

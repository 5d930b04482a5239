"""A job that can only wait gives its place away; one that stands still, or runs for too long, fails and says why."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.engine.entry import Claimed, End
from scheduling.engine.ledger import Dispatch, Ledger
from scheduling.protocol.messages import Failure, Kind
from scheduling.states import JobState
from tests.unit.engine.making import all_done, claimed, config, outcome, planned, raised

FULL = Failure(message="[Errno 28]", tile=0, refusal="no space left on device")


def ledger_of(*jobs: Claimed, **changes: object) -> Ledger:
    """These jobs taken on at 0."""
    ledger = Ledger(config(**changes), 1)
    for job in jobs:
        ledger.add(job, 0.0)
    return ledger


def send(ledger: Ledger, now: float, processes: int = 1) -> list[Dispatch]:
    return list(ledger.dispatch(now, {"cpu": processes}))


def end_at(ledger: Ledger, now: float) -> End | None:
    """What becomes of the only job as seen at this time."""
    ledger.look(now)
    return next(iter(ledger.ends()), None)


def again(job: Claimed, end: End) -> Claimed:
    """The next claim of a job that was taken back so."""
    return replace(
        job, epoch=job.epoch + 1, tries=end.tries, refused_for_s=end.refused_for_s, tiles_total=None, tiles_processed=end.tiles_processed
    )


# -- tiles that wait for their next try


def test_a_job_of_which_only_failed_tiles_are_left_waits_without_a_place() -> None:
    ledger = ledger_of(claimed(tiles=1), tile_backoff_s=(0.5, 2.0))
    (sent,) = send(ledger, 0.0)
    assert end_at(ledger, 0.1) is None
    ledger.settle(raised(sent, 0, "boom"), 1.0)
    end = end_at(ledger, 1.1)
    assert end is not None
    assert (end.state, end.retry_reason, dict(end.tries)) == (JobState.PENDING, "retrying", {0: 1})
    assert end.reason == "retrying in 1 s: tile 0: boom"
    assert end.retry_in_s == pytest.approx(0.4)


def test_a_job_with_other_tiles_to_send_does_not_wait() -> None:
    ledger = ledger_of(claimed(tiles=3))
    first, _ = send(ledger, 0.0)
    ledger.settle(raised(first, 0, "boom"), 0.1)
    assert end_at(ledger, 0.2) is None
    assert [dispatch.bundle.tiles for dispatch in send(ledger, 0.2)] == [(2,)]


def test_tries_count_on_over_waiting_and_the_third_fails_the_job() -> None:
    job = claimed(tiles=1)
    for number in range(1, 3):
        ledger = ledger_of(job)
        if job.tiles_total is None:
            (plan,) = send(ledger, 0.0)
            ledger.settle(planned(plan, 1), 0.0)
        (sent,) = send(ledger, 0.0)
        ledger.settle(raised(sent, 0, "boom"), 0.1)
        end = end_at(ledger, 0.2)
        assert end is not None
        assert (end.state, dict(end.tries)) == (JobState.PENDING, {0: number})
        job = again(job, end)
    ledger = ledger_of(job)
    (plan,) = send(ledger, 0.0)
    ledger.settle(planned(plan, 1), 0.0)
    (sent,) = send(ledger, 0.0)
    ledger.settle(raised(sent, 0, "boom"), 0.1)
    end = end_at(ledger, 0.1)
    assert end is not None
    assert (end.state, end.error) == (JobState.FAILED, "Tile 0: boom (tried 3 times)")


# -- a disk that refuses


def test_a_full_disk_is_charged_to_no_tile_and_tried_again_every_five_seconds() -> None:
    ledger = ledger_of(claimed(tiles=4))
    first, second = send(ledger, 0.0)
    ledger.settle(outcome(first, failure=FULL), 1.0)
    assert not send(ledger, 1.0), "nothing more is sent"
    ledger.settle(outcome(second, failure=FULL), 1.5)
    end = end_at(ledger, 1.5)
    assert end is not None
    assert (end.state, dict(end.tries), end.refused_for_s) == (JobState.PENDING, {}, 0.5)
    assert end.reason == "no space left on device, retrying in 5 s"
    assert end.retry_in_s == pytest.approx(5.0)


def test_one_bundle_finds_out_whether_the_disk_is_well_again() -> None:
    ledger = ledger_of(claimed(tiles=100, refused_for_s=7.0))
    (probe,) = send(ledger, 0.0, processes=4)
    assert not send(ledger, 0.1, processes=4)
    ledger.settle(all_done(probe), 0.2)
    assert len(send(ledger, 0.2, processes=4)) == 8


@given(st.lists(st.floats(0.1, 100.0), min_size=1, max_size=30))
def test_a_disk_that_refuses_for_ten_minutes_fails_the_job_and_not_before(pauses: list[float]) -> None:
    job, refused_for = claimed(tiles=1), None
    for pause in pauses:
        ledger = ledger_of(replace(job, refused_for_s=refused_for), disk_patience_s=600.0)
        (sent,) = send(ledger, 0.0)
        ledger.settle(outcome(sent, failure=FULL), pause)
        end = end_at(ledger, pause)
        assert end is not None
        is_over = refused_for is not None and refused_for + pause > 600.0
        assert end.state == (JobState.FAILED if is_over else JobState.PENDING)
        if is_over:
            assert end.error == "no space left on device, for 10 minutes"
            return
        refused_for = end.refused_for_s
        assert refused_for is not None


def test_planning_says_nothing_of_whether_the_disk_takes_tiles() -> None:
    ledger = ledger_of(claimed(tiles=None, refused_for_s=100.0))
    (plan,) = send(ledger, 0.0)
    ledger.settle(planned(plan, 3), 0.1)
    (sent,) = send(ledger, 0.1, processes=4)
    ledger.settle(outcome(sent, failure=FULL), 1.0)
    end = end_at(ledger, 1.0)
    assert end is not None
    assert end.refused_for_s == pytest.approx(101.0)


# -- limits of time


def test_a_job_that_ran_longer_than_its_limit_fails_also_over_several_claims() -> None:
    ledger = ledger_of(claimed(tiles=100, timeout_s=60.0, ran_s=50.0))
    send(ledger, 0.0)
    assert end_at(ledger, 10.0) is None
    ledger.look(10.5)
    assert not send(ledger, 10.5)
    assert ledger.stopping(), "what is under way is asked to end"


def test_a_bundle_may_take_no_longer_than_the_job_has_left() -> None:
    ledger = ledger_of(claimed(tiles=100, timeout_s=60.0, ran_s=55.0), stuck_s=10.0)
    sent = send(ledger, 0.0)
    assert {dispatch.bundle.limit_s for dispatch in sent} == {5.0}


@pytest.mark.parametrize(("seconds", "limit_s"), [(0.05, 10.0), (60.0, 602.5)])
def test_a_bundle_is_stuck_after_ten_times_what_its_next_tile_is_expected_to_take(seconds: float, limit_s: float) -> None:
    ledger = ledger_of(claimed(tiles=100, seconds_per_tile=seconds), time_box_s=0.25)
    assert {dispatch.bundle.limit_s for dispatch in send(ledger, 0.0)} == {limit_s}


def test_planning_and_finishing_have_limits_of_their_own() -> None:
    ledger = ledger_of(claimed(tiles=None, plan_s=6.0, step_s=4.0), time_box_s=0.25)
    (plan,) = send(ledger, 0.0)
    ledger.settle(planned(plan, 0), 0.1)
    (finish,) = send(ledger, 0.1)
    assert (plan.bundle.kind, plan.bundle.limit_s, finish.bundle.kind, finish.bundle.limit_s) == (Kind.PLAN, 60.0, Kind.FINISH, 42.5)


def test_a_job_of_which_nothing_comes_to_its_end_fails_and_time_without_bundles_does_not_count() -> None:
    ledger = ledger_of(claimed(tiles=100), no_progress_s=30.0)
    assert end_at(ledger, 1000.0) is None
    send(ledger, 1000.0)
    for second in range(1001, 1031):
        assert end_at(ledger, float(second)) is None
    ledger.look(1031.0)
    ledger.lose_everything()
    end = end_at(ledger, 1031.0)
    assert end is not None
    assert (end.state, end.error) == (JobState.FAILED, "nothing came to its end for 30 s")


def test_time_in_which_the_leader_did_not_look_is_not_held_against_a_job() -> None:
    ledger = ledger_of(claimed(tiles=100), no_progress_s=30.0)
    send(ledger, 0.0)
    assert end_at(ledger, 3600.0) is None


def test_every_tile_that_ends_begins_the_count_anew() -> None:
    ledger = ledger_of(claimed(tiles=100), no_progress_s=30.0)
    for now in range(0, 200, 20):
        assert end_at(ledger, float(now)) is None
        for dispatch in send(ledger, float(now)):
            ledger.settle(all_done(dispatch), now + 10.0)
        ledger.look(now + 10.0)

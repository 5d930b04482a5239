"""The ledger of bundles: what goes out, what comes back, how a job ends (what is lost: test_ledger_losses)."""

from __future__ import annotations

import pytest

from scheduling.engine.ledger import Ledger
from scheduling.protocol.messages import Kind
from scheduling.states import JobState
from tests.unit.engine.making import all_done, claimed, config, outcome, planned, raised
from tests.unit.engine.sending import ONE, new_ledger, only_end, send, send_one, tiles_of


def test_a_job_goes_through_plan_tiles_and_finish_and_ends_with_its_artifacts() -> None:
    ledger = new_ledger()
    ledger.add(claimed(tiles=None))
    plan = send_one(ledger)
    assert (plan.bundle.kind, plan.bundle.term, plan.bundle.epoch, plan.is_first) == (Kind.PLAN, 3, 101, True)
    ledger.settle(planned(plan, 2, warnings=("much tissue",)), 0.1)
    for sent in send(ledger, 0.1):
        assert sent.bundle.kind is Kind.TILES
        ledger.settle(all_done(sent), 0.2)
    finish = send_one(ledger, 0.2)
    assert (finish.bundle.kind, finish.bundle.tiles_total, finish.bundle.step) == (Kind.FINISH, 2, 0)
    ledger.settle(outcome(finish, next_step=4), 0.3)
    assert not ledger.ends()
    finish = send_one(ledger, 0.3)
    assert finish.bundle.step == 4
    ledger.settle(outcome(finish, artifacts=({"name": "results.json"},), warnings=("few cells",)), 0.4)
    end = only_end(ledger)
    assert (end.state, end.tiles_processed, end.tiles_total) == (JobState.SUCCEEDED, 2, 2)
    assert (end.artifacts, end.warnings) == (({"name": "results.json"},), ("much tissue", "few cells"))
    assert not send(ledger, 9.0)


def test_a_plan_that_finds_every_tile_finished_goes_on_to_the_artifacts() -> None:
    ledger = new_ledger()
    ledger.add(claimed(tiles=None))
    ledger.settle(planned(send_one(ledger), 3, [0, 1, 2]), 0.0)
    assert send_one(ledger).bundle.kind is Kind.FINISH


def test_a_job_without_tiles_goes_on_to_the_artifacts() -> None:
    ledger = new_ledger()
    ledger.add(claimed(tiles=None))
    ledger.settle(planned(send_one(ledger), 0), 0.0)
    assert send_one(ledger).bundle.kind is Kind.FINISH


def test_only_tiles_that_are_not_finished_are_sent() -> None:
    ledger = new_ledger()
    ledger.add(claimed(tiles=None))
    ledger.settle(planned(send_one(ledger), 6, [0, 2, 3], seconds_per_tile=1.0), 0.0)
    assert tiles_of(send(ledger, processes=4)) == [(1,), (4,), (5,)]


def test_no_more_bundles_are_under_way_than_the_processes_can_take() -> None:
    ledger = new_ledger()
    ledger.add(claimed(tiles=100))
    ledger.add(claimed(2, user=2, tiles=100))
    assert len(send(ledger, processes=3)) == 6
    assert not send(ledger, processes=3)
    assert ledger.under_way == 6


def test_nothing_is_sent_to_a_queue_without_workers() -> None:
    ledger = new_ledger()
    ledger.add(claimed(queue="gpu"))
    assert not list(ledger.dispatch(0.0, {"cpu": 2}))
    assert [sent.queue for sent in ledger.dispatch(0.0, {"gpu": 1})] == ["gpu", "gpu"]


def test_bundles_go_to_users_in_turn_and_a_users_first_one_overtakes() -> None:
    ledger = new_ledger()
    for job, user in ((1, 1), (2, 1), (3, 2)):
        ledger.add(claimed(job, user=user, tiles=50))
    sent = send(ledger, processes=4)
    assert [(dispatch.bundle.spec.owner, dispatch.is_first) for dispatch in sent] == [
        ("user-1", True),
        ("user-2", True),
        *[("user-1", False), ("user-2", False)] * 3,
    ]
    own = [dispatch.bundle.spec.id for dispatch in sent if dispatch.bundle.spec.owner == "user-1"]
    assert own == ["uuid-1", "uuid-2", "uuid-1", "uuid-2"]


def test_a_job_started_later_does_not_starve_its_users_earlier_one() -> None:
    ledger = new_ledger()
    ledger.add(claimed(1, tiles=1000))
    for _ in range(20):
        for sent in send(ledger):
            ledger.settle(all_done(sent, seconds=1.0), 0.0)
    ledger.add(claimed(2, tiles=1000))
    owners = []
    for _ in range(5):
        for sent in send(ledger):
            owners.append(sent.bundle.spec.id)
            ledger.settle(all_done(sent, seconds=1.0), 0.0)
    assert owners.count("uuid-1") == owners.count("uuid-2") == 5


def test_a_bundle_that_could_not_be_sent_is_as_if_never_made() -> None:
    ledger = new_ledger()
    ledger.add(claimed(tiles=3))
    before = ledger.virtual_times()
    sent = next(ledger.dispatch(0.0, ONE))
    ledger.unsend(sent.bundle)
    assert (ledger.under_way, ledger.virtual_times()[1]) == (0, before.get(1, 0.0))
    assert tiles_of(send(ledger))[0] == sent.bundle.tiles


@pytest.mark.parametrize("change", [{"epoch": 999}, {"bundle": "another"}])
def test_an_outcome_of_another_claim_or_an_unknown_bundle_changes_nothing(change: dict[str, object]) -> None:
    ledger = new_ledger()
    ledger.add(claimed(tiles=1))
    sent = send_one(ledger)
    ledger.settle(outcome(sent, done=(0,), **change), 0.1)
    assert (ledger.stale, ledger.under_way, ledger.planned()[0].progress) == (1, 1, 0)


def test_a_doubled_outcome_counts_once() -> None:
    ledger = new_ledger()
    ledger.add(claimed(tiles=4))
    sent = send(ledger)[0]
    ledger.settle(all_done(sent), 0.1)
    times = ledger.virtual_times()
    ledger.settle(all_done(sent), 0.1)
    assert (ledger.stale, ledger.planned()[0].progress, ledger.virtual_times()) == (1, 1, times)


def test_an_outcome_of_a_job_that_was_dropped_is_stale() -> None:
    ledger = new_ledger()
    ledger.add(claimed(tiles=4))
    sent = send(ledger)[0]
    ledger.drop(1)
    ledger.settle(all_done(sent), 0.1)
    assert (ledger.stale, ledger.under_way, ledger.jobs) == (1, 0, frozenset())


# -- failures


def test_a_tile_that_raises_is_tried_three_times_with_backoff_then_the_job_fails_with_its_index() -> None:
    ledger = new_ledger(tile_backoff_s=(0.5, 2.0))
    ledger.add(claimed(tiles=1))
    ledger.settle(raised(send_one(ledger), 0), 0.0)
    assert not send(ledger, 0.4)
    ledger.settle(raised(send_one(ledger, 0.5), 0), 0.5)
    assert not send(ledger, 2.4)
    ledger.settle(raised(send_one(ledger, 2.5), 0), 2.5)
    end = only_end(ledger)
    assert (end.state, end.error, end.traceback) == (JobState.FAILED, "Tile 0: boom (tried 3 times)", "Traceback")


def test_other_tiles_go_on_while_one_waits_to_be_tried_again() -> None:
    ledger = new_ledger()
    ledger.add(claimed(tiles=3))
    first, second = send(ledger)
    ledger.settle(raised(first, 0), 0.0)
    ledger.settle(all_done(second), 0.0)
    assert tiles_of(send(ledger, 0.1)) == [(2,)]
    assert tiles_of(send(ledger, 0.6)) == [(0,)]


def test_two_tiles_that_raise_twice_each_do_not_fail_the_job() -> None:
    ledger = new_ledger(tile_backoff_s=(0.0,))
    ledger.add(claimed(tiles=2))
    for _ in range(2):
        for sent in send(ledger):
            ledger.settle(raised(sent, sent.bundle.tiles[0]), 0.0)
    assert not ledger.ends()
    for sent in send(ledger):
        ledger.settle(all_done(sent), 0.0)
    assert send_one(ledger).bundle.kind is Kind.FINISH


def test_a_final_failure_is_not_tried_again() -> None:
    ledger = new_ledger()
    ledger.add(claimed(tiles=None))
    ledger.settle(raised(send_one(ledger), None, "no model is installed", is_final=True), 0.0)
    assert only_end(ledger).error == "no model is installed"


def test_planning_that_raises_is_tried_again_after_a_while() -> None:
    ledger = new_ledger()
    ledger.add(claimed(tiles=None))
    ledger.settle(raised(send_one(ledger), None), 0.0)
    assert not send(ledger, 0.1)
    assert send_one(ledger, 0.6).bundle.kind is Kind.PLAN


def test_a_folder_that_is_gone_is_planned_again_and_fails_the_job_when_it_stays_gone() -> None:
    ledger = new_ledger(tile_backoff_s=(0.0,))
    ledger.add(claimed(tiles=2))
    for sent in send(ledger):
        ledger.settle(outcome(sent, is_gone=True), 0.0)
    assert not ledger.ends(), "bundles that were under way together were each charged"
    for _ in range(2):
        ledger.settle(outcome(send_one(ledger), is_gone=True), 0.0)
    assert "folder" in only_end(ledger).error


def test_the_end_reports_the_tiles_that_finished_after_the_failure() -> None:
    """Progress once told must not fall: bundles beside the failing one still count."""
    ledger = new_ledger(tile_tries=1)
    ledger.add(claimed(tiles=9))
    failing, beside = send(ledger)
    ledger.settle(raised(failing, failing.bundle.tiles[0]), 0.0)
    assert not ledger.ends()
    ledger.settle(all_done(beside), 0.1)
    assert only_end(ledger).tiles_processed == ledger.planned()[0].progress == 1


def test_a_job_that_ends_before_its_plan_keeps_the_progress_it_had_shown() -> None:
    ledger = new_ledger()
    ledger.add(claimed(tiles=None, tiles_processed=6))
    ledger.cancel(1)
    end = only_end(ledger)
    assert (end.tiles_processed, end.tiles_total) == (6, None)


# -- losses


def test_progress_does_not_fall_while_the_disk_is_looked_at_again() -> None:
    ledger = new_ledger()
    ledger.add(claimed(tiles=None, tiles_processed=6))
    ledger.settle(planned(send_one(ledger), 10, [0, 1]), 0.0)
    assert ledger.planned()[0].progress == 6


# -- the end by cancel


def test_a_cancelled_job_ends_only_when_nothing_of_it_is_under_way() -> None:
    ledger = new_ledger()
    ledger.add(claimed(tiles=9))
    first, second = send(ledger)
    ledger.cancel(1)
    assert not ledger.ends()
    assert [job.job for job in ledger.stopping()] == [1]
    ledger.settle(outcome(first), 0.1)
    assert not send(ledger, 0.1)
    assert not ledger.ends()
    ledger.settle(all_done(second), 0.2)
    assert (only_end(ledger).state, only_end(ledger).tiles_processed) == (JobState.CANCELLED, 1)


def test_a_job_cancelled_before_anything_was_sent_ends_at_once() -> None:
    ledger = new_ledger()
    ledger.add(claimed(cancel_requested=True))
    assert not send(ledger)
    assert only_end(ledger).state is JobState.CANCELLED


def test_a_failure_after_the_cancel_leaves_the_job_cancelled() -> None:
    ledger = new_ledger(tile_tries=1)
    ledger.add(claimed(tiles=1))
    sent = send_one(ledger)
    ledger.cancel(1)
    ledger.settle(raised(sent, 0), 0.1)
    assert only_end(ledger).state is JobState.CANCELLED


def test_a_finish_that_was_taken_in_before_the_cancel_stands() -> None:
    ledger = new_ledger()
    ledger.add(claimed(tiles=1))
    ledger.settle(all_done(send_one(ledger)), 0.0)
    ledger.settle(outcome(send_one(ledger), artifacts=()), 0.1)
    ledger.cancel(1)
    assert only_end(ledger).state is JobState.SUCCEEDED


def test_tiles_that_the_bundle_did_not_carry_are_not_taken_for_finished() -> None:
    ledger = Ledger(config(), term=1)
    ledger.add(claimed(tiles=3))
    first = next(iter(ledger.dispatch(0.0, {"cpu": 1})))
    ledger.settle(outcome(first, done=(*first.bundle.tiles, 2, -1, 99)), 0.1)
    assert ledger.planned()[0].done == len(first.bundle.tiles)

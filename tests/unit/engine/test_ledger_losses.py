"""The ledger of bundles: what is lost, with a process, with a worker or with Redis, and who is charged with it."""

from __future__ import annotations

from scheduling.protocol.messages import Failure, Kind
from scheduling.states import JobState
from tests.unit.engine.making import all_done, claimed, outcome, planned
from tests.unit.engine.sending import new_ledger, only_end, send, send_one, tiles_of


def test_a_bundle_lost_with_its_process_sends_its_tiles_alone_after_a_look_at_the_disk() -> None:
    ledger = new_ledger()
    ledger.add(claimed(tiles=None))
    ledger.settle(planned(send_one(ledger), 16, batch=4), 0.0)
    first, second = send(ledger)
    assert first.bundle.tiles == (0, 1, 2, 3)
    ledger.settle(outcome(first, is_lost=True), 0.1)
    assert not send(ledger, 0.1), "planning waits until nothing is under way"
    ledger.settle(all_done(second), 0.2)
    plan = send_one(ledger, 0.2)
    assert plan.bundle.kind is Kind.PLAN
    ledger.settle(planned(plan, 16, [0, *second.bundle.tiles], batch=4), 0.3)
    alone = tiles_of(send(ledger, 0.3, processes=4))
    assert not ledger.planned()[0].tries, "which of the four tiles killed is not known"
    assert alone[:3] == [(1,), (2,), (3,)]
    assert alone[3] == (8, 9, 10, 11)


def test_a_tile_that_kills_its_process_is_charged_only_when_alone_and_fails_the_job_at_the_third_time() -> None:
    ledger = new_ledger(tile_backoff_s=(0.0,))
    ledger.add(claimed(tiles=None))
    ledger.settle(planned(send_one(ledger), 4, batch=4), 0.0)
    kills = 0
    while not ledger.ends():
        for sent in send(ledger):
            if sent.bundle.kind is Kind.PLAN:
                ledger.settle(planned(sent, 4, sorted({0, 1, 3}) if kills > 1 else [], batch=4), 0.0)
            elif 2 in sent.bundle.tiles:
                kills += 1
                ledger.settle(outcome(sent, is_lost=True), 0.0)
            else:
                ledger.settle(all_done(sent), 0.0)
    assert (kills, only_end(ledger).error) == (4, "Tile 2: the worker process died while computing it (tried 3 times)")


def test_a_bundle_that_nobody_names_for_a_while_is_lost_and_charged_to_no_tile() -> None:
    ledger = new_ledger()
    ledger.add(claimed(tiles=None))
    ledger.settle(planned(send_one(ledger), 2), 0.0)
    first, second = send(ledger)
    assert ledger.lose_unnamed(frozenset(), 5.0) == 0
    assert ledger.lose_unnamed(frozenset({first.bundle.id}), 5.1) == 1
    ledger.settle(all_done(second), 5.2)
    assert ledger.stale == 1
    ledger.settle(all_done(first), 5.3)
    assert send_one(ledger, 5.4).bundle.kind is Kind.PLAN
    assert not ledger.planned()[0].tries


def test_a_bundle_that_was_named_a_moment_ago_is_not_lost() -> None:
    """Between leaving its queue and the worker's next heartbeat nobody names a bundle, however long ago it was sent."""
    ledger = new_ledger()
    ledger.add(claimed(tiles=1))
    sent = send_one(ledger)
    for second in range(1, 31):
        assert ledger.lose_unnamed(frozenset({sent.bundle.id}), float(second)) == 0
    for second in range(31, 36):
        assert ledger.lose_unnamed(frozenset(), float(second)) == 0
    assert ledger.lose_unnamed(frozenset(), 36.0) == 1


def test_a_leader_that_did_not_look_for_a_while_gives_bundles_that_while_to_be_named() -> None:
    ledger = new_ledger()
    ledger.add(claimed(tiles=1))
    sent = send_one(ledger)
    assert ledger.lose_unnamed(frozenset({sent.bundle.id}), 1.0) == 0
    assert ledger.lose_unnamed(frozenset(), 31.0) == 0
    for second in range(32, 35):
        assert ledger.lose_unnamed(frozenset(), float(second)) == 0
    assert ledger.lose_unnamed(frozenset(), 35.0) == 1


def test_a_bundle_that_a_worker_names_is_never_lost_however_long_it_takes() -> None:
    ledger = new_ledger()
    ledger.add(claimed(tiles=1))
    sent = send_one(ledger)
    assert not any(ledger.lose_unnamed(frozenset({sent.bundle.id}), float(second)) for second in range(2000))


def test_a_bundle_lost_to_a_disk_that_does_not_answer_is_charged_to_no_tile_and_its_job_waits() -> None:
    ledger = new_ledger()
    ledger.add(claimed(tiles=None))
    ledger.settle(planned(send_one(ledger), 1), 0.0)
    sent = send_one(ledger)
    ledger.settle(outcome(sent, is_lost=True, failure=Failure(message="no answer", refusal="the disk does not answer")), 10.0)
    ledger.look(10.0)
    end = only_end(ledger)
    assert (end.state, end.tries, end.retry_reason) == (JobState.PENDING, {}, "the disk does not answer, retrying")


def test_what_a_lost_bundle_was_charged_stays_charged() -> None:
    ledger = new_ledger()
    ledger.add(claimed(tiles=1, seconds_per_tile=0.2))
    sent = send_one(ledger)
    ledger.settle(outcome(sent, is_lost=True), 0.0)
    assert ledger.virtual_times() == {1: 0.2}


def test_after_a_restart_of_redis_every_job_is_planned_again_and_earlier_outcomes_are_stale() -> None:
    ledger = new_ledger()
    ledger.add(claimed(1, tiles=9))
    ledger.add(claimed(2, user=2, tiles=9))
    earlier = send(ledger)
    ledger.lose_everything()
    assert ledger.under_way == 0
    assert [sent.bundle.kind for sent in send(ledger)] == [Kind.PLAN, Kind.PLAN]
    for sent in earlier:
        ledger.settle(all_done(sent), 0.1)
    assert (ledger.stale, ledger.under_way) == (2, 2)

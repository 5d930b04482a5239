"""Parcels: small bundles of several jobs travel in one message, and what that does not change."""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter

import pytest

from scheduling.engine.ledger import Dispatch, Ledger
from scheduling.protocol.messages import Bundle, Kind, Parcel
from scheduling.states import JobState
from tests.unit.engine.making import all_done, claimed, config, outcome, planned


def new_ledger(jobs: int, *, users: int = 1, **changes: object) -> Ledger:
    """A ledger with so many jobs of one short tile."""
    ledger = Ledger(config(), 1)
    for job in range(jobs):
        ledger.add(claimed(job, user=job % users, **{"tiles": 1, "seconds_per_tile": 0.01, **changes}))  # type: ignore[arg-type]
    return ledger


def parcels(ledger: Ledger, processes: int, now: float = 0.0) -> list[list[Dispatch]]:
    """What goes out now, by parcel."""
    return [list(group) for _, group in groupby(ledger.dispatch(now, {"cpu": processes}), key=attrgetter("parcel"))]


def test_jobs_that_are_more_than_processes_share_parcels_and_every_process_gets_its_part() -> None:
    sent = parcels(new_ledger(16), 4)
    assert [len(parcel) for parcel in sent] == [4, 4, 4, 4]
    assert len({dispatch.claimed.job for parcel in sent for dispatch in parcel}) == 16


def test_jobs_that_are_no_more_than_processes_travel_alone() -> None:
    assert [len(parcel) for parcel in parcels(new_ledger(4), 4)] == [1, 1, 1, 1]


def test_a_parcel_holds_no_more_than_fits_its_time_box() -> None:
    sent = parcels(new_ledger(12, seconds_per_tile=0.1), 1)
    assert [len(parcel) for parcel in sent] == [2, 2]
    assert [len(parcel) for parcel in parcels(new_ledger(12, seconds_per_tile=0.3), 1)] == [1, 1]


def test_no_more_parcels_are_under_way_than_the_processes_can_take() -> None:
    ledger = new_ledger(100, seconds_per_tile=0.05)
    first = parcels(ledger, 2)
    assert len(first) == 4
    assert not parcels(ledger, 2)
    for dispatch in first[0]:
        assert not parcels(ledger, 2), "a parcel has room for another only when all of it has come back"
        ledger.settle(all_done(dispatch, 0.05), 0.1)
    assert len(parcels(ledger, 2, 0.1)) == 1


def test_users_share_a_parcel_as_they_share_the_workers() -> None:
    (first, *_) = parcels(new_ledger(12, users=3, seconds_per_tile=0.05), 2)
    assert sorted(dispatch.claimed.user for dispatch in first[:3]) == [0, 1, 2]


def test_a_parcel_is_named_after_its_first_bundle() -> None:
    for parcel in parcels(new_ledger(8), 2):
        bundles = tuple(dispatch.bundle for dispatch in parcel)
        assert Parcel(bundles=bundles, queue="cpu", is_first=True).id == parcel[0].parcel == bundles[0].id


def test_planning_travels_alone() -> None:
    ledger = Ledger(config(), 1)
    for job in range(6):
        ledger.add(claimed(job, tiles=None))
    assert [len(parcel) for parcel in parcels(ledger, 1)] == [1, 1]


def test_of_a_parcel_whose_process_died_nothing_is_charged_and_the_bundle_that_had_begun_goes_alone() -> None:
    ledger = new_ledger(4)
    (parcel,) = parcels(ledger, 1)
    assert len(parcel) == 4
    ledger.settle(outcome(parcel[0], is_lost=True), 0.1)
    assert not any(ledger.lose_unnamed(frozenset({parcel[0].parcel}), float(second)) for second in range(20)), "its parcel is named"
    assert sum(ledger.lose_unnamed(frozenset(), 20.0 + second) for second in range(10)) == 3
    assert not ledger.ends()
    assert not any(entry.tries for entry in ledger.planned())
    for (plan,) in parcels(ledger, 4, 40.0):
        assert plan.bundle.kind is Kind.PLAN
        ledger.settle(planned(plan, 1, seconds_per_tile=0.01), 40.1)
    again = parcels(ledger, 1, 40.2)
    suspects = [parcel for parcel in again if any(dispatch.claimed.job == 0 for dispatch in parcel)]
    assert all(len(parcel) == 1 for parcel in suspects)


@pytest.mark.parametrize(("tiles", "is_last"), [(1, True), (2, False)])
def test_a_bundle_that_leaves_no_tile_to_others_is_the_last(tiles: int, is_last: bool) -> None:
    ledger = new_ledger(1, tiles=tiles, seconds_per_tile=1.0)
    assert [parcel[0].bundle.is_last for parcel in parcels(ledger, 1)] == [is_last] + [False] * (tiles - 1)


def test_a_last_bundle_that_brings_the_artifacts_ends_its_job_and_one_that_brings_a_step_goes_on_there() -> None:
    ledger = new_ledger(2)
    (parcel,) = parcels(ledger, 1)
    ledger.settle(outcome(parcel[0], done=(0,), artifacts=({"name": "results.json"},), found=((0, 1),)), 0.1)
    ledger.settle(outcome(parcel[1], done=(0,), next_step=3), 0.1)
    (end,) = ledger.ends()
    assert (end.state, end.tiles_processed, end.artifacts) == (JobState.SUCCEEDED, 1, ({"name": "results.json"},))
    ledger.drop(end.job)
    ((finish,),) = parcels(ledger, 1, 0.2)
    assert (finish.bundle.kind, finish.bundle.step) == (Kind.FINISH, 3)


def test_a_bundle_is_the_same_after_its_way_as_json() -> None:
    (parcel,) = parcels(new_ledger(3), 1)
    for dispatch in parcel:
        assert Bundle.from_json(dispatch.bundle.to_json()) == dispatch.bundle

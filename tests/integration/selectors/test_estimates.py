"""When a job will end and a waiting user will start, from what was measured; null rather than a guess."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from scheduling.models import Job, SchedulerLease, User, UserSlot, Workflow
from scheduling.selectors.estimates import Holding, job_end, slots_free, user_starts
from scheduling.selectors.queue import estimated_starts, queue_body
from scheduling.selectors.workflows import workflow_body, workflow_rows
from tests.integration.store.test_query_plans import leader, statements, walks_among
from tests.integration.working import Leader, lead, new_user, submit

__all__ = ["leader"]  # the fixture

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def running(**changes: Any) -> Job:
    return Job(**{"state": "RUNNING", "tiles_total": 100, "tiles_processed": 40, "tiles_per_s": 2.0, **changes})


def holding(tiles: int | None = 100, tiles_per_s: float | None = 10.0, since_s: float = -10.0) -> Holding:
    return Holding(since=after(since_s), tiles=tiles, tiles_per_s=tiles_per_s)


# -- of a job


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({}, 30),
        ({"tiles_per_s": 2.1}, 30),
        ({"tiles_per_s": 0.5}, 120),
        ({"tiles_per_s": 0.01}, 6000),
        ({"tiles_per_s": None}, None),
        ({"tiles_per_s": 0.0}, None),
        ({"tiles_per_s": 1e-9}, None),
        ({"tiles_total": None, "tiles_processed": 0}, None),
        ({"tiles_processed": 100}, None),
        ({"state": "PENDING"}, None),
        ({"state": "SUCCEEDED"}, None),
    ],
)
def test_a_job_ends_when_its_remaining_tiles_are_done_at_the_measured_pace(changes: dict[str, Any], seconds: int | None) -> None:
    assert job_end(running(**changes), NOW) == (None if seconds is None else after(seconds))


@given(st.integers(1, 10**6), st.floats(0.01, 10_000))
def test_an_estimate_is_never_too_early_and_rounded_by_little(tiles: int, tiles_per_s: float) -> None:
    exact_s = tiles / tiles_per_s
    end = job_end(running(tiles_total=tiles, tiles_processed=0, tiles_per_s=tiles_per_s), NOW)
    if end is None:
        assert exact_s > 300 * 86_400
    else:
        late_s = (end - NOW).total_seconds() - exact_s
        assert -0.001 <= late_s <= max(5.0, 0.25 * exact_s)


# -- of a user


@pytest.mark.parametrize(
    ("holdings", "users", "slot_max_s", "expected"),
    [
        ([holding(), holding(tiles=200)], 2, 0.0, [10, 20]),
        ([holding(tiles=200), holding()], 2, 0.0, [10, 20]),
        ([holding()], 3, 0.0, [0, 0, 10]),
        ([holding(tiles=None), holding()], 2, 0.0, [10]),
        ([holding(tiles_per_s=None), holding(tiles=0, tiles_per_s=None)], 2, 0.0, [0]),
        ([holding(tiles=None), holding(tiles=10_000)], 2, 50.0, [40, 40]),
        ([holding(tiles=None, since_s=-100)], 1, 50.0, [0]),
        ([holding(since_s=-10)], 1, 50.0, [10]),
        ([], 2, 0.0, [0, 0]),
        ([holding(), holding()], 1, 0.0, [10, 10]),
    ],
)
def test_the_next_slot_comes_free_with_the_end_of_the_work_or_of_the_tenure(
    holdings: list[Holding], users: int, slot_max_s: float, expected: list[int]
) -> None:
    assert slots_free(holdings, NOW, max_active_users=users, slot_max_s=slot_max_s) == [after(seconds) for seconds in expected]


@pytest.fixture
def house(db: None, settings: Any) -> list[User]:
    """Alice and Bob are active, Carol, Dave and Eve wait in that order; nobody's pace is measured."""
    settings.ENV = dataclasses.replace(settings.ENV, max_concurrent_users=2, max_workers=3, user_slot_max_seconds=0.0)
    leader = lead(max_active_users=2, max_workers=3)
    users = [new_user(name) for name in ("alice", "bob", "carol", "dave", "eve")]
    for user in users:
        submit(user, "j1 a", "j2 b", "j3 b")
        leader.settle()
    return users


def measure(user: User, tiles_per_s: float) -> None:
    """The pace of each of the user's running jobs."""
    Job.objects.filter(owner=user, state="RUNNING").update(tiles_per_s=tiles_per_s)


def starts(slot_max_s: float = 0.0) -> dict[int, datetime]:
    return user_starts(NOW, max_active_users=2, slot_max_s=slot_max_s)


def test_the_kth_who_waits_gets_the_kth_slot_that_comes_free(house: list[User]) -> None:
    alice, bob, carol, dave, _ = house
    assert starts() == {}
    measure(bob, 6.0)
    assert starts() == {carol.pk: after(10)}
    measure(alice, 0.5)  # each of her two running jobs
    assert starts() == {carol.pk: after(10), dave.pk: after(60)}
    Job.objects.filter(owner=bob, job_id="j3").update(tiles_total=None)
    assert starts() == {carol.pk: after(60)}
    UserSlot.objects.update(since=after(-20))
    assert starts(slot_max_s=35.0) == {carol.pk: after(15), dave.pk: after(15)}


def test_paused_work_holds_no_slot(house: list[User]) -> None:
    alice, _, carol, *_ = house
    measure(alice, 2.0)
    Workflow.objects.filter(pk=submit(alice, "long").pk).update(paused=True)
    assert starts() == {carol.pk: after(15)}


def test_without_a_scheduler_nobody_starts(house: list[User]) -> None:
    measure(house[0], 1.0)
    assert list(estimated_starts()) == [house[2].pk]
    SchedulerLease.objects.update(trusted_until=None)
    assert estimated_starts() == {}


def test_the_bodies_tell_the_estimates(house: list[User]) -> None:
    alice, _, carol, dave, _ = house
    measure(alice, 0.5)
    flows = {user.username: Workflow.objects.select_related("owner").get(owner=user) for user in house}
    job = workflow_body(flows["alice"])["jobs"][0]
    assert job["tiles_per_s"] == 0.5
    left_s = (datetime.fromisoformat(job["estimated_end"]) - timezone.now()).total_seconds()
    assert 35 < left_s <= 45
    assert {name: workflow_body(flow)["estimated_start"] is not None for name, flow in flows.items()} == {
        **{"alice": False, "bob": False, "carol": True},
        **{"dave": False, "eve": False},
    }
    start = workflow_body(flows["carol"])["estimated_start"]
    assert [row["estimated_start"] for row in workflow_rows([flows["carol"], flows["alice"]])] == [start, None]
    assert [row["estimated_start"] for row in queue_body(dave)["waiting"]] == [start, None, None]
    Workflow.objects.filter(owner=carol).update(status="CANCELLED")
    flows["carol"].refresh_from_db()
    assert workflow_body(flows["carol"])["estimated_start"] is None


@pytest.mark.django_db
def test_the_work_of_active_users_is_found_without_a_walk_through_all_jobs(leader: Leader) -> None:
    sent = statements(lambda: user_starts(NOW, max_active_users=3, slot_max_s=0.0))
    assert len(sent) == 4
    assert not walks_among(sent)

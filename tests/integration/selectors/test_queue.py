"""Reads of the queue: who is active, who waits, which workers live; other users stay nameless."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone
from redis import Redis

from scheduling.models import Job, SchedulerLease, User
from scheduling.protocol import presence
from scheduling.protocol.inbox import Inbox
from scheduling.selectors import queue
from scheduling.selectors.disk import DiskUse
from scheduling.version import code_version
from tests.integration.working import lead, new_slide, new_user, submit

pytestmark = pytest.mark.django_db


@pytest.fixture
def redis() -> Redis:
    """The Redis of the settings."""
    return Redis.from_url(settings.ENV.redis_url)


def heartbeat(name: str = "cpu@host", **changes: Any) -> presence.Heartbeat:
    """A worker that lives."""
    base = {"queues": ("cpu",), "processes": 2, "state": "idle", "bundles": (), "heartbeat": "2026-01-02T03:04:05.000006Z"}
    return presence.Heartbeat(name=name, **{**base, "version": code_version(), **changes})


@pytest.fixture
def house() -> list[User]:
    """Alice and Bob are active, Carol and Dave wait in that order."""
    leader = lead(max_active_users=2, max_workers=3)
    users = [new_user(name) for name in ("alice", "bob", "carol", "dave")]
    for user in users:
        submit(user, "j1 a", "j2 b", "j3 b")
        leader.settle()
    return users


def test_the_queue_shows_each_user_only_their_own_name(house: list[User]) -> None:
    found = queue.queue_body(house[2])
    assert list(found) == ["active", "waiting", "max_concurrent_users", "workers", "draining", "disk"]
    assert [list(row) for row in found["active"]] == [["user_id", "since", "running", "waiting", "disk_bytes"]] * 2
    assert [(row["user_id"], row["running"], row["waiting"]) for row in found["active"]] == [(None, 2, 1), (None, 1, 2)]
    assert [list(row) for row in found["waiting"]] == [["user_id", "position", "since", "jobs", "estimated_start", "disk_bytes"]] * 2
    assert [(row["user_id"], row["position"], row["jobs"]) for row in found["waiting"]] == [("carol", 1, 3), (None, 2, 3)]
    assert found["waiting"][0]["since"] < found["waiting"][1]["since"]
    assert (found["max_concurrent_users"], found["workers"], found["draining"]) == (3, [], False)


def test_the_queue_says_when_the_work_runs_out(house: list[User]) -> None:
    SchedulerLease.objects.update(is_draining=True)
    found = queue.queue_body(house[2])
    assert (found["draining"], [row["estimated_start"] for row in found["waiting"]]) == (True, [None, None])


def test_only_staff_see_what_the_files_of_all_users_take(house: list[User]) -> None:
    alice, bob, carol, _ = house
    Job.objects.filter(owner=alice).update(disk_bytes=100)
    Job.objects.filter(owner=carol, job_id="j1").update(disk_bytes=50)
    new_slide(carol, "up.tif", size_bytes=1000, is_upload=True)
    new_slide(carol, "shelf.tif", size_bytes=10**6)
    new_slide(bob, "gone.tif", size_bytes=10**6, is_upload=True, deleted_at=timezone.now())
    found = queue.queue_body(new_user("stefanie", is_staff=True))
    assert found["disk"] == [{"user_id": "carol", "bytes": 1050}, {"user_id": "alice", "bytes": 300}]
    assert [row["disk_bytes"] for row in [*found["active"], *found["waiting"]]] == [300, 0, 1050, 0]
    other = queue.queue_body(alice)
    assert (other["disk"], {row["disk_bytes"] for row in [*other["active"], *other["waiting"]]}) == (None, {None})


def test_disk_use_is_added_up_now_and_then_alone(house: list[User], django_assert_num_queries: Any) -> None:
    use = DiskUse()
    Job.objects.filter(owner=house[0]).update(disk_bytes=7)
    assert use.by_user() == {house[0].pk: 21}
    with django_assert_num_queries(0):
        assert use.by_user() == {house[0].pk: 21}


def test_staff_see_all_names(house: list[User]) -> None:
    found = queue.queue_body(new_user("stefanie", is_staff=True))
    assert [row["user_id"] for row in [*found["active"], *found["waiting"]]] == ["alice", "bob", "carol", "dave"]


def test_the_queue_costs_the_same_however_long_it_is(house: list[User], django_assert_max_num_queries: Any) -> None:
    with django_assert_max_num_queries(8):
        queue.queue_body(house[0])


def test_positions_are_those_of_all_who_wait(house: list[User]) -> None:
    assert queue.positions_in_queue() == {house[2].pk: (1, 2), house[3].pk: (2, 2)}
    assert [queue.position_of(user) for user in house] == [None, None, (1, 2), (2, 2)]


@pytest.mark.parametrize(("users", "workers", "expected"), [(3, 8, 3), (8, 3, 3)])
def test_no_more_users_are_active_than_there_are_workers(settings: Any, users: int, workers: int, expected: int) -> None:
    settings.ENV = dataclasses.replace(settings.ENV, max_concurrent_users=users, max_workers=workers)
    assert queue.max_active_users() == expected


def test_live_workers_are_shown_with_what_they_say_of_themselves(redis: Redis) -> None:
    presence.beat(redis, heartbeat("b@host", queues=("cpu", "gpu"), state="running", bundles=("x",)))
    presence.beat(redis, heartbeat("a@host", state="stopping", queues=("big",)))
    workers = queue.workers()
    assert [list(worker) for worker in workers] == [["name", "queues", "processes", "state", "heartbeat", "version", "bundles"]] * 2
    assert [(worker["name"], worker["queues"], worker["state"]) for worker in workers] == [
        ("a@host", ["big"], "stopping"),
        ("b@host", ["cpu", "gpu"], "running"),
    ]
    assert queue.queues_served() == {"cpu", "gpu"}


def test_a_worker_of_another_version_is_shown_as_one(redis: Redis) -> None:
    presence.beat(redis, heartbeat("old@host", version="0.0.1+000000000000", bundles=("x", "y")))
    [worker] = queue.workers()
    assert (worker["state"], worker["version"], worker["bundles"]) == ("other version", "0.0.1+000000000000", 2)


def test_without_redis_there_are_no_workers_and_no_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    away = Redis.from_url("unix:///no/such/socket")
    monkeypatch.setattr(queue, "_redis", lambda: away)
    assert (queue.workers(), queue.counters(), queue.queues_served()) == ([], {}, frozenset())


def test_counters_add_up(redis: Redis) -> None:
    Inbox(redis).count(bundles_sent=2, lost_bundles=1)
    Inbox(redis).count(bundles_sent=3)
    assert queue.counters() == {"bundles_sent": 5.0, "lost_bundles": 1.0}


def test_the_scheduler_lives_as_long_as_its_leader_is_trusted() -> None:
    assert not queue.scheduler_alive()
    leader = lead()
    assert queue.scheduler_alive()
    leader.lease.resign()
    assert not queue.scheduler_alive()
    SchedulerLease.objects.all().delete()
    assert not queue.scheduler_alive()

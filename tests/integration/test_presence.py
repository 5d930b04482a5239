"""Heartbeats of workers on a real Redis: who lives, what they hold, who is forgotten."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
import redis as redis_py

from scheduling.jobtypes.base import JobSpec
from scheduling.leader.pool import CeleryPool, PoolUnavailable
from scheduling.leader.publishing import queue_keys
from scheduling.protocol import presence
from scheduling.protocol.messages import Bundle, Kind, Parcel
from scheduling.version import broker_prefix, code_version
from tests.support.redis_server import RedisServer
from workflowsite.celery import app


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[redis_py.Redis]:
    """The session's Redis, to which Celery sends as well."""
    app.set_current()
    with redis_py.Redis.from_url(redis_server.url) as client:
        yield client


def worker(name: str = "cpu@host", **changes: Any) -> presence.Heartbeat:
    """A worker's heartbeat."""
    base = {"queues": ("cpu",), "processes": 2, "state": "idle", "bundles": (), "heartbeat": "2026-01-02T03:04:05.000006Z"}
    return presence.Heartbeat(name=name, **{**base, "version": code_version(), **changes})


def bundle(name: str) -> Bundle:
    """A bundle to be carried by Celery."""
    spec = JobSpec(id="job", owner="o", job_type="SEGMENT_CELLS", parameters={}, slide=None)
    return Bundle(id=name, kind=Kind.TILES, term=1, epoch=1, spec=spec, time_box_s=0.25)


def parcel(*names: str, queue: str, is_first: bool = False) -> Parcel:
    """A parcel of bundles of these names."""
    return Parcel(bundles=tuple(bundle(name) for name in names), queue=queue, is_first=is_first)


def test_a_worker_that_beats_lives_and_says_what_it_holds(redis: redis_py.Redis) -> None:
    presence.beat(redis, worker("b", bundles=("x", "y"), state="running"))
    presence.beat(redis, worker("a"))
    assert presence.live(redis) == [worker("a"), worker("b", bundles=("x", "y"), state="running")]


def test_the_last_beat_counts(redis: redis_py.Redis) -> None:
    presence.beat(redis, worker(bundles=("x",)))
    presence.beat(redis, worker())
    assert presence.live(redis) == [worker()]


def test_a_beat_expires_by_redis_own_clock(redis: redis_py.Redis) -> None:
    presence.beat(redis, worker())
    assert 0 < redis.ttl("worker:cpu@host") <= presence.EXPIRES_S


def test_a_worker_that_fell_silent_is_forgotten(redis: redis_py.Redis) -> None:
    presence.beat(redis, worker("a"))
    presence.beat(redis, worker("b"))
    redis.delete("worker:a")  # what its expiry does
    assert [found.name for found in presence.live(redis)] == ["b"]
    assert redis.smembers(presence.NAMES) == {b"b"}


def test_a_worker_that_leaves_is_gone_at_once(redis: redis_py.Redis) -> None:
    presence.beat(redis, worker())
    presence.leave(redis, "cpu@host")
    assert presence.live(redis) == []


def test_a_worker_that_stops_takes_no_new_work() -> None:
    living = [
        worker("a", queues=("cpu",)),
        worker("b", queues=("gpu",), state="stopping"),
        worker("c", queues=("big", "cpu"), state="running"),
    ]
    assert presence.queues_served(living) == {"cpu", "big"}


def test_bundles_in_a_queue_or_named_by_a_worker_are_held(redis: redis_py.Redis) -> None:
    pool = CeleryPool(redis)
    presence.beat(redis, worker(bundles=("with-a-worker",)))
    pool.submit([parcel("first", queue="cpu", is_first=True), parcel("later", "with it", queue="cpu")])
    assert pool.held() == {"with-a-worker", "first", "later"}
    first, later = queue_keys("cpu")
    assert (redis.llen(first), redis.llen(later)) == (1, 1)
    redis.delete(first)
    assert pool.held() == {"with-a-worker", "later"}


def test_the_queues_of_every_worker_are_looked_at(redis: redis_py.Redis) -> None:
    pool = CeleryPool(redis)
    pool.submit([parcel("on the gpu", queue="gpu")])
    assert pool.held() == frozenset()
    presence.beat(redis, worker(queues=("gpu",)))
    assert pool.held() == {"on the gpu"}


def test_a_stopped_claim_is_marked_for_its_epoch_alone(redis: redis_py.Redis) -> None:
    CeleryPool(redis).stop("job", 7, is_ended=False)
    assert redis.exists("stopped:job:7") == 1
    assert redis.exists("stopped:job:8") == 0


def test_a_pool_without_redis_says_so() -> None:
    pool = CeleryPool(redis_py.Redis.from_url("unix:///no/such/socket"))
    for use in (pool.workers, pool.held, lambda: pool.stop("job", 1, is_ended=False), lambda: pool.submit([parcel("b", queue="cpu")])):
        with pytest.raises(PoolUnavailable):
            use()


def test_a_heartbeat_of_another_version_is_read_as_far_as_it_goes_and_garbage_is_nobody(redis: redis_py.Redis) -> None:
    before = {key: value for key, value in asdict(worker("older")).items() if key != "version"}
    for name, value in (("newer", None), ("garbage", b"\xff no json"), ("older", json.dumps(before).encode())):
        presence.beat(redis, worker(name))
        if value is not None:
            redis.set(f"worker:{name}", value, ex=5)
    redis.set("worker:newer", json.dumps({**asdict(worker("newer")), "gpu_memory_bytes": 1}), ex=5)
    assert [heartbeat.name for heartbeat in presence.live(redis)] == ["newer", "older"]
    assert not any(heartbeat.is_taking_work for heartbeat in presence.live(redis) if heartbeat.name == "older")


def test_a_message_in_the_queue_that_is_not_ours_is_passed_over(redis: redis_py.Redis) -> None:
    redis.rpush(f"{broker_prefix()}cpu", "no json", "[]", '{"headers": {}}')
    try:
        assert "x" not in CeleryPool(redis).held()
    finally:
        redis.delete(f"{broker_prefix()}cpu")


def test_a_worker_of_another_version_takes_no_work() -> None:
    assert presence.queues_served([worker("a", version="0.0.1+000000000000"), worker("b", queues=("gpu",))]) == {"gpu"}

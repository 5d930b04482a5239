"""Several schedulers, one leads: whatever becomes of it, another one goes on, and what the old one still does changes nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.environment import is_postgres
from tests.support.product import Product
from tests.support.standby import Standby, drop_database, fresh_database, leader_pid, rows
from tests.support.waiting import PATIENCE_S, eventually

pytestmark = [pytest.mark.engine, pytest.mark.database]

JOBS = [{"job_id": f"j{n}", "branch": f"b{n % 3}", "job_type": "TISSUE_MASK", "parameters": {"tiles": 60}} for n in range(6)]


@pytest.fixture
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """Running, with tiles of 30 ms, on a database of its own."""
    url = fresh_database()
    settings = {"SIMULATED_SECONDS_PER_TILE": "0.03", "RATE_LIMIT_CAPACITY": 0, "WORKER_PROCESSES": 2, "MAX_WORKERS": 2}
    up = Product(tmp_path_factory.mktemp("p") / "d", **settings, **({"DATABASE_URL": url} if url else {}))
    yield up.start().until_ready()
    up.clean_up()
    if url:
        drop_database(url)


@pytest.fixture
def standby(product: Product) -> Iterator[Standby]:
    """A second scheduler, which leads; the product's own stands by."""
    second = Standby(product).start()
    yield second.lead()
    second.stop()


@pytest.fixture
def workflow(product: Product, standby: Standby) -> str:
    """Six jobs on their way."""
    with httpx.Client(base_url=f"http://127.0.0.1:{product.port}", headers={"X-User-ID": "a"}, timeout=PATIENCE_S) as client:
        answer = client.post("/workflow", json={"jobs": JOBS})
        assert answer.status_code == 201, answer.text
    eventually(lambda: tiles(product) > 10, "ten tiles")
    return str(answer.json()["workflow_id"])


def tiles(product: Product) -> int:
    return int(rows(product, "SELECT SUM(tiles_processed) FROM scheduling_job")[0][0] or 0)


def log(product: Product) -> list[tuple[Any, ...]]:
    """(id, type, term) of all that happened."""
    return rows(product, "SELECT id, type, term FROM scheduling_event ORDER BY id")


def assert_all_ended_once_and_by_right(product: Product) -> None:
    """Every job succeeded once, and no row of the log is of a term that had ended when it was written."""
    finished = rows(product, "SELECT job_uuid, COUNT(*) FROM scheduling_event WHERE type = 'job.finished' GROUP BY job_uuid")
    assert [count for _, count in finished] == [1] * len(JOBS)
    assert rows(product, "SELECT DISTINCT state, attempt, tiles_processed FROM scheduling_job") == [("SUCCEEDED", 1, 60)]
    terms = [term for _, _, term in log(product) if term]
    assert terms == sorted(terms)


def finish(product: Product) -> None:
    eventually(lambda: not rows(product, "SELECT 1 FROM scheduling_job WHERE state IN ('PENDING', 'RUNNING') LIMIT 1"), "the end")


@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped in order"])
def test_a_leader_that_ends_is_followed_by_the_standby(product: Product, standby: Standby, workflow: str, signal_: signal.Signals) -> None:
    os.kill(standby.pid, signal_)
    eventually(lambda: leader_pid(product) not in {0, standby.pid}, "another leader")
    finish(product)
    assert_all_ended_once_and_by_right(product)
    resigned = [kind for _, kind, _ in log(product)].count("leader.resigned")
    assert resigned == rows(product, "SELECT term FROM scheduling_schedulerlease")[0][0] - (2 if signal_ == signal.SIGKILL else 1)


@pytest.mark.postgres
def test_a_leader_that_was_stopped_for_long_changes_nothing_when_it_goes_on(product: Product, standby: Standby, workflow: str) -> None:
    os.kill(standby.pid, signal.SIGSTOP)
    eventually(lambda: leader_pid(product) != standby.pid, "another leader")
    finish(product)
    before = log(product)
    os.kill(standby.pid, signal.SIGCONT)
    said = product.data_dir / "logs" / "standby.log"
    eventually(lambda: "deposed" in said.read_text(), "the old leader's insight")
    assert log(product) == before
    assert_all_ended_once_and_by_right(product)


@pytest.mark.skipif(is_postgres(), reason="about SQLite, where a stopped writer blocks the file")
def test_a_leader_that_is_stopped_for_a_moment_goes_on(product: Product, standby: Standby, workflow: str) -> None:
    os.kill(standby.pid, signal.SIGSTOP)
    reached = tiles(product)
    eventually(
        lambda: not rows(product, "SELECT 1 FROM scheduling_schedulerlease WHERE trusted_until > datetime('now', '+4 seconds')"),
        "two seconds",
    )
    os.kill(standby.pid, signal.SIGCONT)
    eventually(lambda: tiles(product) > reached, "progress")
    finish(product)
    assert_all_ended_once_and_by_right(product)

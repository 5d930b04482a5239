"""The whole product under SIGKILL: ten workflows run while the scheduler and then Redis are killed, and all ten finish."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from tests.support.product import Product
from tests.support.waiting import PATIENCE_S, eventually
from workflowsite import embedded_redis

pytestmark = pytest.mark.engine

WORKFLOWS = 10
JOBS = [{"job_id": "j1", "branch": "b", "job_type": "SEGMENT_CELLS"}, {"job_id": "j2", "branch": "b", "job_type": "TISSUE_MASK"}]


@pytest.fixture
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """Running, with simulated tiles of 50 ms and no rate limit."""
    up = Product(
        tmp_path_factory.mktemp("p") / "d", SIMULATED_SECONDS_PER_TILE="0.05", RATE_LIMIT_CAPACITY=0, WORKER_PROCESSES=4, MAX_WORKERS=4
    )
    yield up.start().until_ready()
    up.clean_up()


@pytest.fixture
def client(product: Product) -> Iterator[httpx.Client]:
    """A program that speaks for four users."""
    with httpx.Client(base_url=f"http://127.0.0.1:{product.port}", timeout=PATIENCE_S) as client:
        yield client


def user_of(number: int) -> dict[str, str]:
    return {"X-User-ID": f"user-{number % 4}"}


def submit(client: httpx.Client, number: int) -> str:
    answer = client.post("/workflow", json={"jobs": JOBS}, headers=user_of(number))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["workflow_id"])


def read(client: httpx.Client, number: int, workflow: str) -> dict[str, Any]:
    answer = client.get(f"/workflow/{workflow}", headers=user_of(number))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def kill(product: Product, word: str) -> None:
    """SIGKILL, and wait until another one has taken its place."""
    pid = product.pid(word)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: product.pid(word) not in {0, pid}, f"the return of {word}")


def test_all_workflows_finish_once_and_in_order_when_the_scheduler_and_redis_are_killed(product: Product, client: httpx.Client) -> None:
    flows = [submit(client, number) for number in range(WORKFLOWS)]
    eventually(lambda: read(client, 0, flows[0])["jobs"][0]["tiles_processed"] >= 3, "three tiles")
    for word in ("run_scheduler", embedded_redis.find_server().name):
        assert any(read(client, n, flow)["status"] == "RUNNING" for n, flow in enumerate(flows)), "the kill would come too late"
        kill(product, word)

    for number, flow in enumerate(flows):
        eventually(lambda n=number, f=flow: read(client, n, f)["status"] not in {"ACCEPTED", "RUNNING"}, "the end")  # type: ignore[misc]
        done = read(client, number, flow)
        first, second = done["jobs"]
        assert done["status"] == "SUCCEEDED", done
        assert first["finished_at"] <= second["started_at"]
        assert [job["tiles_processed"] for job in done["jobs"]] == [20, 30]
        assert [job["attempt"] for job in done["jobs"]] == [1, 1]

    with closing(sqlite3.connect(product.data_dir / "db.sqlite3")) as database:
        ends = database.execute("SELECT job_uuid, COUNT(*) FROM scheduling_event WHERE type = 'job.finished' GROUP BY job_uuid").fetchall()
    assert len(ends) == 2 * WORKFLOWS
    assert {count for _, count in ends} == {1}, "a job ended twice"

"""How many jobs of one tile the engine carries in a second from their first start to their last end, every state and event in the database."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg

from tests.bench.bench_engine import seconds, submit
from tests.bench.figures import Figure
from tests.support.product import Product
from tests.support.waiting import eventually

PROCESSES = 4
#: Jobs that may run at once: as many as there are processes, and many more.
PLACES = (4, 64)
#: Of one user each.
WORKFLOWS, BRANCHES = 3, 1000
ONE_TILE = {"tiles": 1, "seconds_per_tile": 0}
LOOK_S = 0.5


def measure() -> dict[str, Figure]:
    """On SQLite, and on PostgreSQL when TEST_DATABASE_URL names a server."""
    servers = {"SQLite": ""} | ({"PostgreSQL": url} if (url := os.environ.get("TEST_DATABASE_URL")) else {})
    return {
        f"{name}: jobs of one tile, {PROCESSES} processes, {places} places": Figure(round(_measured(places, url), 1), "a second", "higher")
        for name, url in servers.items()
        for places in PLACES
    }


def _measured(places: int, server: str) -> float:
    limits = {"RATE_LIMIT_CAPACITY": 0, "WORKER_PROCESSES": PROCESSES, "MAX_WORKERS": places}
    with tempfile.TemporaryDirectory(prefix="b-") as folder, _database(server) as settings:
        up = Product(Path(folder) / "d", **limits, **settings)
        try:
            up.start().until_ready()
            with httpx.Client(base_url=f"http://127.0.0.1:{up.port}", timeout=60) as client:
                return _jobs_a_second(client, up)
        finally:
            up.clean_up()


@contextmanager
def _database(server: str) -> Iterator[dict[str, str]]:
    """The settings of an empty database: SQLite's own, or a new one on this server."""
    if not server:
        yield {}
        return
    name = f"bench_{os.getpid()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield {"DATABASE_URL": f"{server.rpartition('/')[0]}/{name}"}
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _jobs_a_second(client: httpx.Client, up: Product) -> float:
    """Everything is submitted while nothing is started; then the workflows say when their first job began and their last one ended."""
    _drain(up)
    users = [f"user-{number}" for number in range(WORKFLOWS)]
    for user in users:
        submit(client, *[ONE_TILE] * BRANCHES, user=user)
    _drain(up, "--resume")
    done = [flow for user in users for flow in eventually(lambda user=user: _finished(client, user), "the end of all jobs", within_s=300)]
    assert {flow["status"] for flow in done} == {"SUCCEEDED"}
    took_s = max(seconds(flow["finished_at"]) for flow in done) - min(seconds(flow["started_at"]) for flow in done)
    return WORKFLOWS * BRANCHES / took_s


def _drain(up: Product, *options: str) -> None:
    subprocess.run([sys.executable, "manage.py", "drain", *options], cwd=up.checkout, env=up.environ, check=True, stdout=subprocess.DEVNULL)


def _finished(client: httpx.Client, user: str) -> list[dict[str, Any]]:
    """The user's workflows when all of them have ended; looking costs the leader next to nothing."""
    time.sleep(LOOK_S)
    found: list[dict[str, Any]] = client.get("/workflow", headers={"X-User-ID": user}).json()["results"]
    return found if all(flow["finished_at"] for flow in found) else []

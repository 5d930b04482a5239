"""One user's slide of 100,000 tiles against two colleagues: how soon they get a tile, and how evenly the workers are shared."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from tests.bench.bench_engine import submit
from tests.bench.figures import Figure
from tests.support.product import Product
from tests.support.waiting import eventually

PROCESSES = 4
TILE_S = 0.05
BIG, OTHERS = {"tiles": 100_000, "seconds_per_tile": TILE_S}, {"tiles": 6_000, "seconds_per_tile": TILE_S}
SHARED_S = 60.0
USERS = ("big", "second", "third")


def measure() -> dict[str, Figure]:
    """Once with a place free for the colleagues, once with all places taken by the big user's branches."""
    return {**_experiment("one big job", branches=1), **_experiment(f"a big job in each of {PROCESSES} branches", branches=PROCESSES)}


def _experiment(name: str, branches: int) -> dict[str, Figure]:
    with tempfile.TemporaryDirectory(prefix="b-") as folder:
        up = Product(Path(folder) / "d", RATE_LIMIT_CAPACITY=0, WORKER_PROCESSES=PROCESSES, MAX_WORKERS=PROCESSES)
        try:
            up.start().until_ready()
            with httpx.Client(base_url=f"http://127.0.0.1:{up.port}", timeout=30) as client:
                return _shared(name, client, up.data_dir, branches)
        finally:
            up.clean_up()


def _shared(name: str, client: httpx.Client, data_dir: Path, branches: int) -> dict[str, Figure]:
    flows = {"big": submit(client, *[BIG] * branches, user="big")}
    eventually(lambda: _tiles(client, "big", flows["big"]) > 50 * branches, "the big user's first tiles")
    began = time.perf_counter()
    flows["second"] = submit(client, OTHERS, user="second")
    eventually(lambda: _tiles(client, "second", flows["second"]) >= 1, "the second user's first tile")
    first_s = time.perf_counter() - began - TILE_S
    flows["third"] = submit(client, OTHERS, user="third")
    eventually(lambda: _tiles(client, "third", flows["third"]) >= 1, "the third user's first tile")
    before = {user: _tiles(client, user, flows[user]) for user in USERS}
    time.sleep(SHARED_S)
    shares = [_tiles(client, user, flows[user]) - before[user] for user in USERS]
    return {
        f"{name}: second user's POST to the first tile seen": Figure(round(first_s, 3), "s", "lower"),
        f"{name}: Jain index of worker-seconds over {SHARED_S:.0f} s": Figure(round(_jain(shares), 4), "1 is even", "higher"),
        f"{name}: jobs taken back": Figure(_taken_back(data_dir), "jobs", "lower"),
    }


def _tiles(client: httpx.Client, user: str, workflow: str) -> int:
    body: dict[str, Any] = client.get(f"/workflow/{workflow}", headers={"X-User-ID": user}).json()
    return sum(job["tiles_processed"] for job in body["jobs"])


def _jain(shares: list[int]) -> float:
    """(sum x)^2 / (n sum x^2): 1 when all are equal, 1/n when one has everything."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


def _taken_back(data_dir: Path) -> int:
    with closing(sqlite3.connect(data_dir / "db.sqlite3")) as database:
        rows = database.execute("SELECT reason FROM scheduling_event WHERE type = 'job.taken_back'").fetchall()
    return len(rows)

"""A DATA_DIR that the version before has worked in, and was killed over, goes on under this one: nothing is lost, nothing begins anew."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tifffile

from scheduling.env import BASE_DIR
from tests.support import earlier, standby
from tests.support.product import Product
from tests.support.redis_server import RedisServer
from tests.support.waiting import PATIENCE_S, eventually

pytestmark = [pytest.mark.engine, pytest.mark.database]

TILES = 240
ENOUGH = 40
SIMULATED = {"job_id": "cells", "branch": "a", "job_type": "SEGMENT_CELLS", "parameters": {"tiles": 12}}
LONG = {"job_id": "long", "branch": "a", "job_type": "SEGMENT_CELLS", "parameters": {"tiles": TILES, "seconds_per_tile": 0.05}}
BEHIND = {"job_id": "behind", "branch": "a", "job_type": "TISSUE_MASK", "parameters": {"tiles": 4}}
CORNERS = [[100, 100], [300, 100], [300, 300], [100, 300], [100, 100]]
ANNOTATION = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [CORNERS]}, "properties": {"objectType": "annotation"}}


@pytest.fixture
def settings_of_both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Redis and the database of both versions; the folder is short enough for a socket."""
    redis = RedisServer(tmp_path_factory.mktemp("r") / "r.sock")
    redis.start()
    database = standby.fresh_database()
    shared = {"REDIS_URL": redis.url, "WORKER_PROCESSES": 2, "SIMULATED_SECONDS_PER_TILE": "0.01", "RATE_LIMIT_CAPACITY": 0}
    yield {**shared, **({"DATABASE_URL": database} if database else {})}
    redis.stop()
    if database:
        standby.drop_database(database)


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DATA_DIR, with a slide: a stained square on glass."""
    folder = tmp_path_factory.mktemp("p") / "d"
    (folder / "slides").mkdir(parents=True)
    pixels = np.full((1024, 1024, 3), 240, np.uint8)
    pixels[200:700, 200:700] = (200, 120, 170)
    unit = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(folder / "slides" / "one.tif", pixels, tile=(256, 256), photometric="rgb", **unit)
    return folder


@contextmanager
def started(product: Product) -> Iterator[Product]:
    """Ready; all of it is killed afterwards."""
    try:
        yield product.start().until_ready()
    finally:
        product.clean_up()


@pytest.fixture
def before(tmp_path: Path, folder: Path, settings_of_both: dict[str, Any]) -> Iterator[Product]:
    """The version before."""
    checkout = earlier.unpack(tmp_path / "earlier")
    kernels = earlier.kernels_as_if_compiled(tmp_path / "kernels", platform.node())
    with started(Product(folder, checkout, **settings_of_both, NUMBA_CACHE_DIR=str(kernels))) as product:
        yield product


class Client:
    """A user of whichever version runs."""

    def __init__(self, product: Product) -> None:
        self._wire = httpx.Client(base_url=f"http://127.0.0.1:{product.port}", headers={"X-User-ID": "alice"}, timeout=PATIENCE_S)

    def close(self) -> None:
        """Hang up."""
        self._wire.close()

    def submit(self, *jobs: dict[str, Any]) -> str:
        """A workflow of these jobs; its id."""
        return str(self.post("/workflow", json={"jobs": list(jobs)})["workflow_id"])

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """Make something."""
        answer = self._wire.post(path, **body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def read(self, path: str) -> dict[str, Any]:
        """Look at something."""
        answer = self._wire.get(path)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def job(self, workflow: str, number: int) -> dict[str, Any]:
        """One of the workflow's jobs."""
        return dict(self.read(f"/workflow/{workflow}")["jobs"][number])

    def until_succeeded(self, workflow: str) -> None:
        """Wait for it; a workflow that has ended otherwise is an error at once."""
        eventually(lambda: self._has_succeeded(workflow), "the end of the workflow")

    def _has_succeeded(self, workflow: str) -> bool:
        shown = self.read(f"/workflow/{workflow}")
        assert shown["status"] in {"ACCEPTED", "RUNNING", "SUCCEEDED"}, shown
        return bool(shown["status"] == "SUCCEEDED")

    def results(self, workflow: str) -> dict[str, bytes]:
        """Everything that the workflow's jobs have left, by address."""
        found = {}
        for job in self.read(f"/workflow/{workflow}")["jobs"]:
            base = f"/workflow/{workflow}/job/{job['job_id']}/results"
            for artifact in self.read(base)["artifacts"]:
                address = f"{base}/{artifact['name']}"
                found[address] = self._wire.get(address).raise_for_status().content
        return found


@dataclass
class Past:
    """What the version before has done."""

    slide: dict[str, Any]
    annotations: dict[str, Any]
    done: str
    results: dict[str, bytes]
    running: str
    tiles: int


def work(client: Client) -> Past:
    """A slide with an annotation and its mask, a simulated job with results, and a job that is in the midst of its tiles."""
    slide = str(client.post("/slide", json={"path": "one.tif"})["slide_id"])
    client.post(f"/slide/{slide}/annotation?name=By+hand", json=ANNOTATION)
    done = client.submit(SIMULATED, {"job_id": "mask", "branch": "b", "job_type": "TISSUE_MASK", "slide": slide})
    client.until_succeeded(done)
    running = client.submit(LONG, BEHIND)
    tiles = eventually(lambda: n if (n := client.job(running, 0)["tiles_processed"]) >= ENOUGH else 0, f"{ENOUGH} tiles")
    return Past(client.read(f"/slide/{slide}"), client.read(f"/slide/{slide}/annotation"), done, client.results(done), running, tiles)


def watch(client: Client, past: Past) -> None:
    """Until the job that ran has succeeded: it begins where it was, never falls back, and is not tried anew."""
    shown = past.tiles

    def step() -> bool:
        nonlocal shown
        job = client.job(past.running, 0)
        assert job["tiles_processed"] >= shown, f"{shown} tiles were finished, now {job['tiles_processed']}"
        assert job["attempt"] == 1
        shown = job["tiles_processed"]
        return bool(job["state"] == "SUCCEEDED")

    eventually(step, "the end of the job that ran")
    client.until_succeeded(past.running)


def assert_the_log_is_clean(product: Product) -> None:
    """No rule is broken by the events of both versions, and nothing is left undone."""
    command = [sys.executable, "manage.py", "verify_events", "--finished"]
    told = subprocess.run(command, cwd=BASE_DIR, env=product.environ, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


def test_what_the_version_before_had_done_is_there_and_what_it_was_doing_goes_on(
    before: Product, folder: Path, settings_of_both: dict[str, Any]
) -> None:
    with closing(Client(before)) as client:
        past = work(client)
    before.clean_up()

    with started(Product(folder, **settings_of_both)) as now, closing(Client(now)) as client:
        assert client.read(f"/slide/{past.slide['slide_id']}") == past.slide
        assert client.read(f"/slide/{past.slide['slide_id']}/annotation") == past.annotations
        assert client.results(past.done) == past.results
        watch(client, past)
        assert client.results(past.done) == past.results, "what was finished has been touched"
        assert_the_log_is_clean(now)

"""What scheduling costs: many short tiles against the ideal, and how soon a workflow's first tile starts on an idle system."""

from __future__ import annotations

import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from tests.bench.figures import Figure
from tests.support.product import Product
from tests.support.waiting import eventually

PROCESSES = 2
TILES, SECONDS_PER_TILE = 2000, 0.02
WARM_UP, ROUNDS = 3, 60
SHOWN_TILES, SHOWN_S = 12, 0.02
CLOCK_TICK_S = 0.004
FINISHED = {"SUCCEEDED", "FAILED", "CANCELLED"}


def measure() -> dict[str, Figure]:
    """Start the product on a folder of its own, measure through its API, stop it."""
    with tempfile.TemporaryDirectory(prefix="b-") as folder:
        up = Product(Path(folder) / "d", RATE_LIMIT_CAPACITY=0, WORKER_PROCESSES=PROCESSES, MAX_WORKERS=PROCESSES)
        try:
            up.start().until_ready()
            with httpx.Client(base_url=f"http://127.0.0.1:{up.port}", headers={"X-User-ID": "bench"}, timeout=30) as client:
                return {**_latency(client, up.data_dir), **_overhead(client)}
        finally:
            up.clean_up()


def _overhead(client: httpx.Client) -> dict[str, Figure]:
    done = until_finished(client, submit(client, {"tiles": TILES, "seconds_per_tile": SECONDS_PER_TILE}))
    job = done["jobs"][0]
    took = seconds(job["finished_at"]) - seconds(job["started_at"])
    ideal = TILES * SECONDS_PER_TILE / PROCESSES
    name = f"{TILES} tiles of {SECONDS_PER_TILE * 1000:.0f} ms on {PROCESSES} processes"
    return {name: Figure(round(took / ideal, 4), "ratio to ideal", "lower")}


def _latency(client: httpx.Client, data_dir: Path) -> dict[str, Figure]:
    """From POST to the start of the first tile, on an idle system."""
    times = [_first_tile_ms(client, data_dir) for _ in range(WARM_UP + ROUNDS)][WARM_UP:]
    p95 = statistics.quantiles(times, n=20)[-1]
    return {
        "POST to the first tile's start on an idle system, median": Figure(round(statistics.median(times), 1), "ms", "lower"),
        "POST to the first tile's start on an idle system, p95": Figure(round(p95, 1), "ms", "lower"),
    }


def _first_tile_ms(client: httpx.Client, data_dir: Path) -> float:
    """A tile starts as long before its file appears as it takes; the file's time may be one tick of the kernel's clock early."""
    before = {*(data_dir / "tiles").glob("*")}
    began = time.time()
    workflow = submit(client, {"tiles": SHOWN_TILES, "seconds_per_tile": SHOWN_S})
    files = eventually(lambda: [f for folder in {*(data_dir / "tiles").glob("*")} - before for f in folder.glob("0/[0-9]*")], "a tile")
    first = min(file.stat().st_mtime for file in files)
    until_finished(client, workflow)
    return (first + CLOCK_TICK_S - SHOWN_S - began) * 1000


def submit(client: httpx.Client, *jobs: dict[str, float], user: str | None = None) -> str:
    """A workflow of simulated segmentations with these parameters, a branch each; its id."""
    requests = [
        {"job_id": f"j{n}", "branch": f"b{n}", "job_type": "SEGMENT_CELLS", "parameters": parameters} for n, parameters in enumerate(jobs)
    ]
    headers = {"X-User-ID": user} if user else {}
    return str(client.post("/workflow", json={"jobs": requests}, headers=headers).json()["workflow_id"])


def until_finished(client: httpx.Client, workflow: str) -> dict[str, Any]:
    """The body of the workflow when it has ended."""

    def finished() -> dict[str, Any] | None:
        time.sleep(0.05)
        body: dict[str, Any] = client.get(f"/workflow/{workflow}").json()
        return body if body["status"] in FINISHED else None

    return eventually(finished, "the end of the workflow", within_s=300) or {}


def seconds(stamp: str) -> float:
    """Seconds of an ISO 8601 time."""
    return datetime.fromisoformat(stamp).timestamp()

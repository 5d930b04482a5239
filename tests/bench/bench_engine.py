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
ROUNDS = 30
FINISHED = {"SUCCEEDED", "FAILED", "CANCELLED"}


def measure() -> dict[str, Figure]:
    """Start the product on a folder of its own, measure through its API, stop it."""
    with tempfile.TemporaryDirectory(prefix="b-") as folder:
        up = Product(Path(folder) / "d", RATE_LIMIT_CAPACITY=0, WORKER_PROCESSES=PROCESSES, MAX_WORKERS=PROCESSES)
        try:
            up.start().until_ready()
            with httpx.Client(base_url=f"http://127.0.0.1:{up.port}", headers={"X-User-ID": "bench"}, timeout=30) as client:
                return {**_latency(client), **_overhead(client)}
        finally:
            up.clean_up()


def _overhead(client: httpx.Client) -> dict[str, Figure]:
    done = _run(client, {"tiles": TILES, "seconds_per_tile": SECONDS_PER_TILE})
    job = done["jobs"][0]
    took = _seconds(job["finished_at"]) - _seconds(job["started_at"])
    ideal = TILES * SECONDS_PER_TILE / PROCESSES
    name = f"{TILES} tiles of {SECONDS_PER_TILE * 1000:.0f} ms on {PROCESSES} processes"
    return {name: Figure(round(took / ideal, 4), "ratio to ideal", "lower")}


def _latency(client: httpx.Client) -> dict[str, Figure]:
    """From POST to the end of a workflow of one tile that takes no time: an upper bound of the first tile's start."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        _run(client, {"tiles": 1, "seconds_per_tile": 0}, poll_s=0.002)
        times.append((time.perf_counter() - began) * 1000)
    p95 = statistics.quantiles(times, n=20)[-1]
    return {
        "POST to the end of a one-tile workflow, median": Figure(round(statistics.median(times), 1), "ms", "lower"),
        "POST to the end of a one-tile workflow, p95": Figure(round(p95, 1), "ms", "lower"),
    }


def _run(client: httpx.Client, parameters: dict[str, float], poll_s: float = 0.1) -> dict[str, Any]:
    job = {"job_id": "j", "branch": "b", "job_type": "SEGMENT_CELLS", "parameters": parameters}
    workflow = client.post("/workflow", json={"jobs": [job]}).json()["workflow_id"]

    def finished() -> dict[str, Any] | None:
        time.sleep(poll_s)
        body: dict[str, Any] = client.get(f"/workflow/{workflow}").json()
        return body if body["status"] in FINISHED else None

    return eventually(finished, "the end of the workflow", within_s=300) or {}


def _seconds(stamp: str) -> float:
    """Seconds of an ISO 8601 time."""
    return datetime.fromisoformat(stamp).timestamp()

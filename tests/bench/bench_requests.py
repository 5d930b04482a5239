"""What one web server beside a working scheduler answers: submissions, reads of a workflow, and the probe, while tiles run."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from scheduling.env import BASE_DIR
from tests.bench.bench_engine import submit
from tests.bench.figures import Figure
from tests.support.product import Product
from tests.support.waiting import eventually

PROCESSES = 2
CONNECTIONS = 16
WARM_UP_S, MEASURED_S = 2.0, 10.0
#: What runs meanwhile: a tile on each process, all the time.
RUNNING: dict[str, float] = {"tiles": 100_000, "seconds_per_tile": 0.05}
SUBMITTED: dict[str, float] = {"tiles": 1, "seconds_per_tile": 0}


def measure() -> dict[str, Figure]:
    """Start the product on a folder of its own, ask it, stop it."""
    with tempfile.TemporaryDirectory(prefix="b-") as folder:
        up = Product(Path(folder) / "d", RATE_LIMIT_CAPACITY=0, WORKER_PROCESSES=PROCESSES, MAX_WORKERS=PROCESSES)
        try:
            up.start().until_ready()
            with httpx.Client(base_url=f"http://127.0.0.1:{up.port}", headers={"X-User-ID": "tiles"}, timeout=30) as client:
                return _figures(up.port, client)
        finally:
            up.clean_up()


def _figures(port: int, client: httpx.Client) -> dict[str, Figure]:
    running = submit(client, *[RUNNING] * PROCESSES)
    eventually(lambda: client.get(f"/workflow/{running}").json()["jobs"][-1]["tiles_processed"] > 0, "tiles", within_s=60)
    read = submit(client, *[SUBMITTED] * 10)
    return {
        **_of("GET /healthz", _times(port, _request("GET /healthz"), 200)),
        **_of("GET of a workflow of 10 jobs", _times(port, _request(f"GET /workflow/{read}", user="tiles"), 200)),
        **_of("POST of a workflow of 2 jobs", _times(port, _request("POST /workflow", user="bench@", body=_two_jobs()), 201)),
    }


def _two_jobs() -> bytes:
    jobs = [{"job_id": f"j{n}", "branch": "b", "job_type": "SEGMENT_CELLS", "parameters": SUBMITTED} for n in range(2)]
    return json.dumps({"jobs": jobs}).encode()


def _request(line: str, *, user: str = "", body: bytes = b"") -> bytes:
    head = [f"{line} HTTP/1.1", "Host: 127.0.0.1", "Accept: application/json"]
    head += [f"X-User-ID: {user}"] if user else []
    head += ["Content-Type: application/json", f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([*head, "", ""]).encode() + body


def _times(port: int, request: bytes, status: int) -> list[float]:
    """Seconds of each answer, of which those of a warm-up are not told."""
    times: list[float] = []
    for seconds in (WARM_UP_S, MEASURED_S):
        command = [sys.executable, "-m", "tests.bench.hammer", str(port), str(CONNECTIONS), str(seconds), str(status)]
        times = json.loads(subprocess.run(command, input=request, cwd=BASE_DIR, stdout=subprocess.PIPE, check=True).stdout)
    return times


def _of(name: str, times: list[float]) -> dict[str, Figure]:
    cuts = statistics.quantiles(times, n=100)
    return {
        f"{name}, {CONNECTIONS} connections": Figure(round(len(times) / MEASURED_S, 1), "a second", "higher"),
        f"{name}, median": Figure(round(cuts[49] * 1000, 1), "ms", "lower"),
        f"{name}, p99": Figure(round(cuts[98] * 1000, 1), "ms", "lower"),
    }

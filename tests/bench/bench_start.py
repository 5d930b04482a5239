"""How soon the product is there: a first start, with the demo, without kernels, after a kill; and what it holds at rest.

Each start gets an empty folder. The environment is that of this checkout: its kernels are compiled before anything is timed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scheduling import kernel_cache
from tests.bench.figures import Figure
from tests.support.product import Product
from tests.support.waiting import eventually

WORKERS = 4
#: After this without work the workers have given back what they can.
REST_S = 12.0
WITHIN_S = 600.0


def measure() -> dict[str, Figure]:
    """Seconds from the command to `Ready`, and MB of all processes together."""
    os.environ.pop(kernel_cache.VARIABLE, None)
    subprocess.run([sys.executable, "-m", "scheduling.worker.kernels"], check=True)
    with _started() as up:  # whatever is made once for an environment
        up.until_ready()
    return {**_empty(), **_with_demo(), **_without_kernels(), **_after_a_kill()}


@contextmanager
def _started(folder: Path | None = None, **settings: str) -> Iterator[Product]:
    """A product that has just been asked to start; stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="b-") as made:
        up = Product(folder or Path(made) / "d", WORKER_PROCESSES=WORKERS, **settings)
        try:
            yield up.start()
        finally:
            up.signal(signal.SIGTERM)
            up.ended()
            up.clean_up()


def _seconds_to_ready(up: Product) -> float:
    began = time.monotonic()
    up.until_ready()
    return time.monotonic() - began


def _empty() -> dict[str, Figure]:
    with _started() as up:
        seconds, cpu = _seconds_to_ready(up), _cpu_seconds(up)
        return {
            "ready": Figure(seconds, "s", "lower"),
            "ready_cpu": Figure(cpu, "s of CPU", "lower"),
            "memory_fresh": Figure(_memory_mb(up), "MB", "lower"),
        }


def _with_demo() -> dict[str, Figure]:
    with _started(DEMO="1") as up:
        seconds, cpu = _seconds_to_ready(up), _cpu_seconds(up)
        _await_work(up)
        time.sleep(REST_S)
        return {
            "ready_with_demo": Figure(seconds, "s", "lower"),
            "ready_with_demo_cpu": Figure(cpu, "s of CPU", "lower"),
            "memory_after_work": Figure(_memory_mb(up), "MB", "lower"),
        }


def _without_kernels() -> dict[str, Figure]:
    with tempfile.TemporaryDirectory(prefix="b-") as kernels, _started(DEMO="1", NUMBA_CACHE_DIR=kernels) as up:
        ready = _seconds_to_ready(up)
        began = time.monotonic()
        _await_work(up)
        return {
            "ready_without_kernels": Figure(ready, "s", "lower"),
            "first_work_without_kernels": Figure(time.monotonic() - began, "s after Ready", "lower"),
        }


def _after_a_kill() -> dict[str, Figure]:
    folder = Path(tempfile.mkdtemp(prefix="b-")) / "d"
    try:
        first = Product(folder, WORKER_PROCESSES=WORKERS).start().until_ready()
        os.kill(first.pid("celery"), signal.SIGSTOP)
        first.signal(signal.SIGKILL)
        first.ended()
        with _started(folder) as up:
            return {"ready_after_kill": Figure(_seconds_to_ready(up), "s", "lower")}
    finally:
        shutil.rmtree(folder.parent, ignore_errors=True)


def _await_work(up: Product) -> None:
    eventually(lambda: up.ask("/workflow")["results"][0]["status"] == "SUCCEEDED", "the sample workflow", within_s=WITHIN_S)


def _memory_mb(up: Product) -> float:
    """Proportional set size of all processes: what they share counts once."""
    lines = [line for pid in up.processes() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _cpu_seconds(up: Product) -> float:
    """Of all processes so far, those that have ended among them: about twice the seconds of a start on two idle cores."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15] for pid in up.processes()]
    return sum(int(ticks) for each in fields for ticks in each) / os.sysconf("SC_CLK_TCK")

"""Installs the product as a newcomer would, with the Python named as argument, from a copy of the tracked files; starts it, runs a job, stops it.

CI runs it with Debian's own Python. It leaves nothing behind, and ends within `LIMIT_S` whatever happens.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 300
STOP_S = 30
JOB = {"jobs": [{"job_id": "a", "branch": "b", "job_type": "TISSUE_MASK", "parameters": {"tiles": 1}}]}


def copy_tracked(folder: Path) -> None:
    """The files that a clone would have."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def ask(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The answer's JSON. Raises URLError for a status of 400 and more, and without a server."""
    headers = {"X-User-ID": "newcomer", "Content-Type": "application/json"}
    request = urllib.request.Request(url, headers=headers, data=json.dumps(body).encode() if body else None)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return dict(json.load(answer))


def until_ready(process: subprocess.Popen[str]) -> None:
    """Pass on what it says until it says that it is ready."""
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        if "Ready: " in line:
            return
    sys.exit("error: it ended before it was ready")


def run_job(url: str) -> None:
    """One job of one tile, which must succeed. The alarm bounds the wait."""
    workflow = ask(f"{url}/workflow", JOB)["workflow_id"]
    while (status := ask(f"{url}/workflow/{workflow}")["status"]) in {"ACCEPTED", "RUNNING"}:
        time.sleep(0.1)
    if status != "SUCCEEDED":
        sys.exit(f"error: the job ended {status}")


def left_in(folder: Path) -> list[str]:
    """The processes that still run in this folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cwd").resolve().is_relative_to(folder):
                found.append((entry / "cmdline").read_text().replace("\0", " "))
    return found


def use(folder: Path, python: str) -> None:
    """Install, start, run a job, stop. Ends this program with one line when any of it fails."""
    port = free_port()
    settings = {"DEMO": "0", "PORT": str(port), "DATA_DIR": str(folder / "var"), "GPU_WORKER": "0", "WORKER_PROCESSES": "1"}
    environ = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL", "MAKEFLAGS", "MAKELEVEL"}}
    began = time.monotonic()
    process = subprocess.Popen(
        ["make", "run", f"PYTHON={python}"], cwd=folder, env=environ | settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        until_ready(process)
        ready_s = time.monotonic() - began
        ask(f"http://127.0.0.1:{port}/readyz")
        run_job(f"http://127.0.0.1:{port}")
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=STOP_S)
    if left := left_in(folder):
        sys.exit(f"error: still running after the stop: {left}")
    print(f"installed and ready in {ready_s:.0f} s, a job run, stopped, nothing left", flush=True)


def main() -> None:
    """Bounded in time as a whole."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    signal.signal(signal.SIGALRM, lambda number, frame: sys.exit(f"error: not done within {LIMIT_S} s"))
    signal.alarm(LIMIT_S)
    with tempfile.TemporaryDirectory(prefix="try-install-") as folder:
        copy_tracked(Path(folder))
        use(Path(folder), sys.argv[1])


if __name__ == "__main__":
    main()

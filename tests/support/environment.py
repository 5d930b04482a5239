"""The environment of the test session: none of the caller's settings, a DATA_DIR of its own. Applied before Django loads."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from scheduling.version import drop_other_kernels, kernel_cache

#: Every variable that the product reads; `tests/test_house.py` holds this list and `.env.example` together.
SETTINGS = (
    *("HOST", "PORT", "DATA_DIR", "DATABASE_URL", "REDIS_URL", "MAX_WORKERS", "WORKER_PROCESSES", "MAX_CONCURRENT_USERS"),
    *("USER_SLOT_MAX_SECONDS", "RATE_LIMIT_CAPACITY", "RATE_LIMIT_REFILL_PER_SECOND", "SIMULATED_SECONDS_PER_TILE"),
    *("MAX_UPLOAD_BYTES", "TRUST_USER_HEADER", "DEMO", "SECRET_KEY", "DEBUG", "ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS"),
    *("HTTPS", "LOG_JSON", "EMBEDDED", "NO_PROGRESS_SECONDS", "EVENT_RETENTION_DAYS", "SLIDE_ROOTS", "GPU_WORKER", "TORCH_DEVICE"),
)
BASE_DIR = Path(__file__).resolve().parents[2]
#: Shared by all sessions of one checkout: to compile all kernels takes a minute.
KERNELS = BASE_DIR / ".cache" / "numba"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def apply() -> Path:
    """Set os.environ for this session and return its DATA_DIR (short: a socket's path has little room)."""
    for name in SETTINGS:
        os.environ.pop(name, None)
    drop_other_kernels(KERNELS)
    data_dir = Path(tempfile.mkdtemp(prefix="wf-"))
    for folder in ("static", "slides", "results", "tiles", "tmp", "redis"):
        (data_dir / folder).mkdir()
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "workflowsite.settings",
        "DATA_DIR": str(data_dir),
        "NUMBA_CACHE_DIR": str(kernel_cache(KERNELS)),
        "SECRET_KEY": "of-the-tests",
        "TRUST_USER_HEADER": "1",
        "HTTPS": "0",
        "DEMO": "0",
    }
    if is_postgres():
        os.environ["DATABASE_URL"] = os.environ["TEST_DATABASE_URL"]
    return data_dir


def compile_kernels() -> None:
    """Compile what of this version is not compiled yet; of several sessions at once, one does and the others wait for it."""
    from workflowsite import compiling

    folder = kernel_cache(KERNELS)
    folder.mkdir(parents=True, exist_ok=True)
    with (KERNELS / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        due = compiling.due(folder)
        started = [subprocess.Popen([sys.executable, "-m", *module], cwd=BASE_DIR) for module in due.values()]
        assert [process.wait() for process in started] == [0] * len(started)
        for name in due:
            compiling.done(folder, name)


def is_postgres() -> bool:
    """Whether this session runs on PostgreSQL."""
    return os.environ.get("TEST_BACKEND", "sqlite") == "postgres"


def find_browser() -> str | None:
    """A Chromium: CHROMIUM names one, else the usual names on PATH."""
    named = os.environ.get("CHROMIUM")
    return named or next((found for name in BROWSERS if (found := shutil.which(name))), None)


def has_torch() -> bool:
    """Whether torch is there, and instanseg-torch, of which the stand-in model is made and which the labels are compared with."""
    return all(importlib.util.find_spec(name) for name in ("torch", "instanseg"))


def has_openvino() -> bool:
    """Whether OpenVINO is there beside torch."""
    return has_torch() and importlib.util.find_spec("openvino") is not None

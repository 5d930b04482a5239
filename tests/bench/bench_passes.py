"""What a pass of the leader costs beside 100,000 finished and 10,000 waiting jobs, against the same active work alone; a step with 2,000 running jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.bench.figures import Figure
from tests.support.environment import SETTINGS


def measure() -> dict[str, Figure]:
    """On SQLite, and on PostgreSQL when TEST_DATABASE_URL names one."""
    figures = _figures("SQLite", {})
    if url := os.environ.get("TEST_DATABASE_URL"):
        figures |= _figures("PostgreSQL", {"DATABASE_URL": url})
    return figures


def _figures(name: str, settings: dict[str, str]) -> dict[str, Figure]:
    environ = {key: value for key, value in os.environ.items() if key not in SETTINGS} | settings
    ran = subprocess.run([sys.executable, "-m", "tests.bench.passes"], env=environ, capture_output=True, text=True, check=True)
    found = json.loads(ran.stdout)
    return {
        f"{name}: a pass beside 110,000 other rows": Figure(
            round(found["many"] / found["few"], 3), "ratio to the same without them", "lower"
        ),
        f"{name}: a pass with active work alone, median": Figure(round(found["few"], 2), "ms", "lower"),
        f"{name}: a step of the loop with 2,000 jobs running, median": Figure(round(found["running"], 1), "ms", "lower"),
    }

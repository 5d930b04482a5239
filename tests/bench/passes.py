"""One database, few rows and then many: what a pass of the leader costs. A process of its own for each database.

`python -m tests.bench.passes` prints one JSON object {"few": ms, "many": ms}; medians of passes in which a job ends and the next begins.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ACTIVE, LANES, JOBS = 3, 4, 40
FINISHED_ROWS, WAITING_ROWS = 100_000, 10_000
PASSES = 60
BATCH = 2000


def main() -> None:
    """Measure on DATABASE_URL, or on a SQLite file."""
    with tempfile.TemporaryDirectory(prefix="b-") as folder:
        os.environ |= {"DJANGO_SETTINGS_MODULE": "workflowsite.settings", "DATA_DIR": folder, "SECRET_KEY": "of-the-bench"}
        logging.disable(logging.WARNING)  # there is no Redis, and nobody looks at the pages
        with _database():
            few = _fill_and_measure(many=False)
            many = _fill_and_measure(many=True)
    json.dump({"few": few, "many": many}, sys.stdout)


@contextmanager
def _database() -> Iterator[None]:
    """An empty database with the product's tables; on PostgreSQL a database of its own."""
    import django

    django.setup()
    from django.test.utils import setup_databases, teardown_databases

    made = setup_databases(verbosity=0, interactive=False)
    yield
    teardown_databases(made, verbosity=0)


def _fill_and_measure(*, many: bool) -> float:
    from django.db import connection

    from scheduling.models import User

    User.objects.all().delete()
    users = [User.objects.create(username=f"active-{n}") for n in range(ACTIVE)]
    for user in users:
        _insert(user, "PENDING", lanes=LANES, jobs=JOBS)
    leader = _leader()
    leader.settle()
    if many:
        _insert_history(users)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return _median_ms(leader)


def _leader() -> Any:
    from scheduling.models import User
    from tests.integration.working import lead

    User.objects.filter(username__startswith="active", slot__isnull=True).update(waiting_since="2026-01-01T00:00:00Z")
    return lead(max_workers=8, max_active_users=ACTIVE)


def _insert_history(active: list[Any]) -> None:
    """Everybody's past, and what waits: half of it the active users' own, in many short and some long lanes."""
    from scheduling.models import User

    others = [User.objects.create(username=f"other-{n}", waiting_since="2026-01-02T00:00:00Z") for n in range(30)]
    everybody = [*active, *others]
    for user in everybody:
        _insert(user, "SUCCEEDED", lanes=FINISHED_ROWS // len(everybody) // 2, jobs=2)
    for user in active:
        _insert(user, "PENDING", lanes=WAITING_ROWS // 4 // len(active), jobs=1)
        _insert(user, "PENDING", lanes=2, jobs=WAITING_ROWS // 8 // len(active))
    for user in others:
        _insert(user, "PENDING", lanes=2, jobs=WAITING_ROWS // 4 // len(others))


def _insert(user: Any, state: str, *, lanes: int, jobs: int) -> None:
    """A workflow for each lane, its jobs one after another."""
    from scheduling.models import Job, Workflow

    made = Workflow.objects.bulk_create([Workflow(owner=user, name="w") for _ in range(lanes)], batch_size=BATCH)
    rows = (
        Job(
            workflow=workflow,
            owner=user,
            job_id=f"j{n}",
            branch="b",
            lane=f"w{workflow.pk}/b",
            job_type="SEGMENT_CELLS",
            state=state,
            tiles_total=1,
        )
        for workflow in made
        for n in range(jobs)
    )
    Job.objects.bulk_create(rows, batch_size=BATCH)


def _median_ms(leader: Any) -> float:
    """Passes in which the oldest running job ends and another begins."""
    from scheduling.engine.entry import End
    from scheduling.states import JobState

    times = []
    for _ in range(PASSES):
        held = next(iter(leader.held.values()))
        end = End(job=held.job, epoch=held.epoch, state=JobState.SUCCEEDED, tiles_processed=1, tiles_total=1)
        began = time.perf_counter()
        result = leader.look(end)
        times.append((time.perf_counter() - began) * 1000)
        assert result.ended and result.claimed, "the pass did nothing"
    return statistics.median(times)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main()

"""One database, few rows and then many: what a pass of the leader costs. A process of its own for each database.

`python -m tests.bench.passes` prints one JSON object {"few": ms, "many": ms, "running": ms}: medians of passes in which a job ends and the next
begins, with active work alone, beside a long past, and with 2,000 jobs running (sending and reporting included).
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
#: Jobs that run at once, steps that are timed with them, and processes that have room for a parcel or two.
RUNNING, STEPS, PROCESSES = 2000, 20, 4
BATCH = 2000


def main() -> None:
    """Measure on DATABASE_URL, or on a SQLite file."""
    with tempfile.TemporaryDirectory(prefix="b-") as folder:
        os.environ |= {"DJANGO_SETTINGS_MODULE": "workflowsite.settings", "DATA_DIR": folder, "SECRET_KEY": "of-the-bench"}
        logging.disable(logging.WARNING)  # there is no Redis, and nobody looks at the pages
        with _database():
            few = _fill_and_measure(many=False)
            many = _fill_and_measure(many=True)
            running = _with_many_running()
    json.dump({"few": few, "many": many, "running": running}, sys.stdout)


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


def _with_many_running() -> float:
    """All that a step of the loop does between what comes in and what goes out, with a bundle of each job ready to be sent."""
    from scheduling.engine.config import EngineConfig
    from scheduling.engine.ledger import Ledger
    from scheduling.leader.reporting import ProgressReporter
    from scheduling.models import User
    from tests.integration.working import lead

    User.objects.all().delete()
    for n in range(ACTIVE):
        _insert(User.objects.create(username=f"active-{n}", waiting_since="2026-01-01T00:00:00Z"), "PENDING", lanes=RUNNING, jobs=2)
    leader = lead(max_workers=RUNNING, max_active_users=ACTIVE)
    leader.settle()
    assert len(leader.held) == RUNNING
    config = EngineConfig(data_dir=Path(), max_workers=RUNNING, max_concurrent_users=ACTIVE)
    ledger, reporter = Ledger(config, leader.lease.term), ProgressReporter(config)
    ledger.begin(leader.held.values(), {}, time.monotonic())
    return statistics.median(_step_ms(leader, ledger, reporter) for _ in range(STEPS))


def _step_ms(leader: Any, ledger: Any, reporter: Any) -> float:
    from scheduling.store.ends import save_progress

    began = time.perf_counter()
    now = time.monotonic()
    ledger.look(now)
    end = _end_of(next(iter(leader.held.values())))
    assert not ledger.ends()
    ledger.drop(end.job)
    result = leader.look(end)
    for claimed in result.claimed:
        ledger.add(claimed, now)
    assert list(ledger.dispatch(now, {"cpu": PROCESSES + ledger.under_way}))
    reporter.for_browser(ledger.planned(), now)
    with leader.lease.transaction():
        save_progress(reporter.for_database(ledger.planned(), now))
    reporter.has_untold(ledger.planned())
    return (time.perf_counter() - began) * 1000


def _end_of(held: Any) -> Any:
    from scheduling.engine.entry import End
    from scheduling.states import JobState

    return End(job=held.job, epoch=held.epoch, state=JobState.SUCCEEDED, tiles_processed=1, tiles_total=1)


def _median_ms(leader: Any) -> float:
    """Passes in which the oldest running job ends and another begins."""
    times = []
    for _ in range(PASSES):
        end = _end_of(next(iter(leader.held.values())))
        began = time.perf_counter()
        result = leader.look(end)
        times.append((time.perf_counter() - began) * 1000)
        assert result.ended and result.claimed, "the pass did nothing"
    return statistics.median(times)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main()

"""A pass reads what is unfinished, not what has ever been: its statements can use the indexes made for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from scheduling.engine.store.snapshot import read_snapshot
from scheduling.engine.store.users import has_work
from tests.integration.working import lead, new_user, submit

pytestmark = pytest.mark.django_db


def plans_of(read: Callable[[], Any]) -> str:
    """The plans of the statements about jobs. On PostgreSQL without sequential scans, which it takes for a table this small."""
    with CaptureQueriesContext(
        connection,
    ) as captured:
        read()
    statements = [query["sql"] for query in captured if '"scheduling_job"' in query["sql"]]
    explain = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")
        lines = [str(row[-1]) for sql in statements for row in cursor.execute(f"{explain} {sql}") or cursor.fetchall()]
    return "\n".join(lines)


def test_a_snapshot_finds_running_jobs_and_lane_heads_by_their_partial_indexes() -> None:
    submit(new_user(), "j1", "j2", "k1 b2")
    lead().look()
    plans = plans_of(lambda: read_snapshot(3, {}))
    assert "job_unfinished_by_lane" in plans and "job_running" in plans, plans


def test_whether_a_user_has_work_is_found_by_the_index_of_unfinished_jobs() -> None:
    user = new_user()
    submit(user)
    assert "job_unfinished_by_lane" in plans_of(lambda: has_work(user.pk))


def test_the_head_of_a_lane_is_its_first_unfinished_job_whatever_the_number_of_lanes() -> None:
    user = new_user()
    first = submit(user, "a1 a", "b1 b", "a2 a", "b2 b")
    paused = submit(user, "c1 c")
    type(paused).objects.filter(pk=paused.pk).update(paused=True)
    first.jobs.filter(job_id="a1").update(state="FAILED")
    heads = read_snapshot(3, {}).heads
    assert [head.job for head in heads] == list(first.jobs.filter(job_id__in=["a2", "b1"]).order_by("id").values_list("id", flat=True))

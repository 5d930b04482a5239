"""A pass reads what is unfinished, not what has ever been: none of its statements walks through a whole table."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from scheduling.engine.policy import Head, Limits
from scheduling.models import Dependency, Event, Job, User, Workflow
from scheduling.store.slots import lock_concerned
from scheduling.store.snapshot import read_facts
from scheduling.store.users import has_work
from tests.integration.working import Leader, lead, new_user, submit

pytestmark = pytest.mark.django_db

LIMITS = Limits(max_workers=4, max_active_users=3, queues=frozenset({"cpu"}))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
#: Tables that grow for ever. The others hold a row for each user at most.
LARGE = ("scheduling_job", "scheduling_workflow", "scheduling_event", "scheduling_dependency")
FINISHED, WAITING = 6_000, 600


@pytest.fixture
def leader() -> Leader:
    """A leader over a past of thousands of jobs, a long queue, and three active users with running jobs."""
    users = [new_user(f"user-{n}") for n in range(6)]
    for user in users:
        submit(user, "a1 a", "a2 a", "b1 b", "b2 b")
    leader = lead(max_workers=4, max_active_users=3)
    leader.settle()
    for user in users:
        _insert(user, "SUCCEEDED", FINISHED // len(users), lanes=FINISHED // len(users))
        _insert(user, "PENDING", WAITING // len(users), lanes=50)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return leader


def _insert(user: User, state: str, jobs: int, lanes: int) -> None:
    flows = Workflow.objects.bulk_create(Workflow(owner=user) for _ in range(lanes))
    rows = Job.objects.bulk_create(
        Job(
            workflow=flows[n % lanes],
            owner=user,
            job_id=f"j{n}",
            branch="b",
            lane=f"w{flows[n % lanes].pk}/b",
            job_type="SEGMENT_CELLS",
            state=state,
        )
        for n in range(jobs)
    )
    Dependency.objects.bulk_create(Dependency(job=job, needs=need) for need, job in pairwise(rows))
    Event.objects.bulk_create(
        Event(type="job.finished", user_id=user.pk, workflow_uuid=flows[n % lanes].uuid, actor="x") for n in range(jobs)
    )


def statements(act: Callable[[], Any]) -> list[str]:
    """What is sent to the database that can have a plan."""
    with CaptureQueriesContext(connection) as captured:
        act()
    return [query["sql"] for query in captured if query["sql"].startswith(("SELECT", "UPDATE", "DELETE", "WITH"))]


def plan_of(sql: str) -> list[str]:
    """The steps of a statement's plan."""
    with connection.cursor() as cursor:
        cursor.execute(f"{'EXPLAIN QUERY PLAN' if connection.vendor == 'sqlite' else 'EXPLAIN'} {sql}")
        return [str(row[-1]).strip() for row in cursor.fetchall()]


def walks_among(sent: list[str]) -> dict[str, list[str]]:
    """The statements that walk through a whole table, with their plans."""
    plans = {sql: plan_of(sql) for sql in sent}
    return {sql: steps for sql, steps in plans.items() if any(whole_table(step) for step in steps)}


def whole_table(step: str) -> bool:
    """Whether a step of a plan walks through all rows of a large table: also along an index that is not a partial one."""
    if "Seq Scan on" in step:
        return any(f"Seq Scan on {table} " in step for table in LARGE)
    if step.startswith("SCAN"):
        return (
            (any(f"{table}" in step.split() for table in LARGE) or re.match(r"SCAN U\d", step) is not None)
            and "USING INDEX job_" not in step
            and "USING COVERING INDEX job_" not in step
        )
    return False


def test_no_statement_of_a_pass_walks_through_a_whole_table(leader: Leader) -> None:
    running = Job.objects.filter(state="RUNNING").select_related("workflow").order_by("pk")[0]
    sent = statements(lambda: leader.end(running.workflow, running.job_id))
    assert len(sent) > 10
    assert not walks_among(sent)


def test_no_statement_of_a_pass_that_admits_a_user_walks_through_a_whole_table(leader: Leader) -> None:
    active = User.objects.filter(slot__isnull=False).order_by("pk")[0]
    Job.objects.filter(owner=active, state="PENDING").update(state="CANCELLED")
    ends = [leader.ending(job.workflow, job.job_id) for job in Job.objects.filter(owner=active, state="RUNNING").select_related("workflow")]
    sent = statements(lambda: leader.look(*ends))
    assert User.objects.filter(slot__isnull=False, username="user-3").exists()
    assert not walks_among(sent)


def test_whether_a_user_has_work_is_found_by_the_index_of_unfinished_jobs(leader: Leader) -> None:
    user = User.objects.order_by("pk")[0]
    [sql] = statements(lambda: has_work(user.pk))
    assert not walks_among([sql])
    assert connection.vendor != "sqlite" or "job_unfinished_by_lane" in "\n".join(plan_of(sql))


def test_a_walk_through_a_whole_table_would_be_seen(leader: Leader) -> None:
    [sql] = statements(lambda: list(Job.objects.filter(error="no index knows this")))
    assert any(whole_table(step) for step in plan_of(sql))


def read_heads() -> tuple[Head, ...]:
    """As a pass reads them."""
    waiting = lock_concerned((), LIMITS.max_active_users, LIMITS.expected)
    return read_facts(LIMITS, NOW, waiting=waiting).snapshot.heads


def test_the_head_of_a_lane_is_its_first_unfinished_job_whatever_the_number_of_lanes() -> None:
    user = new_user()
    first = submit(user, "a1 a", "b1 b", "a2 a", "b2 b")
    paused = submit(user, "c1 c")
    type(paused).objects.filter(pk=paused.pk).update(paused=True)
    first.jobs.filter(job_id="a1").update(state="FAILED")
    heads = read_heads()
    assert [head.job for head in heads] == list(first.jobs.filter(job_id__in=["a2", "b1"]).order_by("id").values_list("id", flat=True))


def test_heads_are_found_behind_long_lanes_that_cannot_go_on() -> None:
    user = new_user()
    running = submit(user, *[f"r{n} b" for n in range(150)])
    running.jobs.filter(job_id="r0").update(state="RUNNING")
    blocked = submit(user, *[f"w{n} b" for n in range(150)])
    blocked.jobs.filter(job_id="w0").update(retry_at="2026-01-01T00:00:10Z")
    elsewhere = submit(user, *[f"g{n} g" for n in range(150)])
    elsewhere.jobs.update(queue="gpu")
    free = submit(user, "f1 f", "f2 f", "h1 h")
    heads = read_heads()
    assert [head.job for head in heads] == list(free.jobs.filter(job_id__in=["f1", "h1"]).order_by("id").values_list("id", flat=True))

"""Reads of workflows: the bodies of the API to the key, reasons for waiting, filters, and what a reader may see."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from scheduling.errors import NotFound
from scheduling.models import Job, User, Workflow
from scheduling.selectors import workflows as selectors
from scheduling.selectors.times import iso
from scheduling.services.workflows import JobRequest, workflow_cancel, workflow_retry
from tests.integration.working import F, Leader, job_of, lead, new_slide, new_user, submit

pytestmark = pytest.mark.django_db

WORKFLOW_KEYS = ["workflow_id", "user_id", "status", "jobs", "name", "progress", "paused", "queue_position"]
TIME_KEYS = ["created_at", "started_at", "finished_at"]
ESTIMATES = ["tiles_per_s", "estimated_end"]
JOB_KEYS = [
    *("job_id", "branch", "job_type", "state", "tiles_total", "tiles_processed", "progress"),
    *("id", "attempt", "waiting_reason", "error", "warnings", "slide"),
]
REQUEST_KEYS = ["depends_on", "cache", "cached", "timeout_s", "region", "annotation", "requires"]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@pytest.fixture
def alice() -> User:
    """The owner."""
    return new_user()


@pytest.fixture
def leader() -> Leader:
    """A scheduler that is trusted."""
    return lead()


def body(workflow: Workflow) -> dict[str, Any]:
    """The body as a reader gets it now."""
    return selectors.workflow_body(Workflow.objects.select_related("owner").get(pk=workflow.pk))


def reasons(workflow: Workflow) -> dict[str, str | None]:
    """Why each job waits."""
    return {job["job_id"]: job["waiting_reason"] for job in body(workflow)["jobs"]}


# -- times


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2026-01-02T03:04:05.000006Z"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05.000000Z"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))), "2026-01-02T01:04:05.000000Z"),
        (None, None),
    ],
)
def test_times_are_utc_with_microseconds_always(time: datetime | None, text: str | None) -> None:
    assert iso(time) == text


# -- bodies


def test_a_body_has_exactly_the_promised_keys_in_order(alice: User) -> None:
    found = body(submit(alice, "j1", "j2"))
    assert list(found) == [*WORKFLOW_KEYS, *TIME_KEYS, "estimated_start"]
    assert [list(job) for job in found["jobs"]] == [[*JOB_KEYS, *TIME_KEYS, *REQUEST_KEYS, *ESTIMATES]] * 2
    assert json.loads(json.dumps(found)) == found


def test_a_new_workflow_shows_its_tiles_already(alice: User) -> None:
    workflow = submit(alice, "j1", JobRequest(job_id="j2", branch="b1", job_type="TISSUE_MASK"), name="Batch 14")
    found = body(workflow)
    first, second = found["jobs"]
    assert (found["workflow_id"], found["user_id"], found["status"], found["name"]) == (str(workflow.uuid), "alice", "ACCEPTED", "Batch 14")
    assert (found["progress"], found["paused"], found["queue_position"]) == (0.0, False, 1)
    assert (first["tiles_total"], first["tiles_processed"], first["progress"], first["attempt"]) == (20, 0, 0.0, 1)
    assert (second["tiles_total"], second["error"], second["warnings"], second["slide"]) == (30, None, [], None)
    assert TIME.fullmatch(found["created_at"])
    assert (found["started_at"], found["finished_at"], first["started_at"]) == (None, None, None)


def test_a_running_workflow_shows_its_progress_as_the_mean_over_its_jobs(alice: User, leader: Leader) -> None:
    workflow = submit(alice, "j1", "j2")
    leader.look()
    Job.objects.filter(pk=job_of(workflow).pk).update(tiles_processed=6)
    found = body(workflow)
    assert (found["status"], found["progress"], found["queue_position"]) == ("RUNNING", 0.15, None)
    assert [job["progress"] for job in found["jobs"]] == [0.3, 0.0]
    assert TIME.fullmatch(found["started_at"])
    assert TIME.fullmatch(found["jobs"][0]["started_at"])


def test_a_failed_job_shows_its_error_and_its_workflow_how_it_ended(alice: User, leader: Leader) -> None:
    workflow = submit(alice)
    leader.look()
    leader.end(workflow, state=F, error="Tile 3: boom", traceback="Traceback of staff", tiles_processed=3, warnings=("few cells",))
    found = body(workflow)
    (job,) = found["jobs"]
    assert (job["error"], job["warnings"], job["waiting_reason"], job["progress"]) == ("Tile 3: boom", ["few cells"], None, 0.15)
    assert found["status"] == "FAILED"
    assert found["finished_at"] == job["finished_at"]
    assert "Traceback" not in json.dumps(found)


def test_a_job_on_a_slide_names_it_and_has_no_tiles_before_its_plan(alice: User) -> None:
    slide = new_slide(alice)
    (job,) = body(submit(alice, slide=slide.pk))["jobs"]
    assert (job["slide"], job["tiles_total"], job["progress"]) == (str(slide.pk), None, 0.0)


def test_a_succeeded_job_without_tiles_is_whole(alice: User, leader: Leader) -> None:
    slide = new_slide(alice)
    workflow = submit(alice, slide=slide.pk)
    leader.look()
    leader.end(workflow, tiles_total=0, tiles_processed=0)
    assert (body(workflow)["progress"], selectors.workflow_rows([workflow])[0]["progress"]) == (1.0, 1.0)


# -- reasons


def test_every_waiting_job_says_why(alice: User, leader: Leader) -> None:
    leader.max_active_users, leader.max_workers = 1, 2
    workflow = submit(alice, "j1", "j2", "j3", "k1 b2", "l1 b3")
    others = [submit(new_user(name)) for name in ("bob", "carol")]
    leader.settle()
    assert reasons(workflow) == {
        "j1": None,
        "j2": "behind job j1 in branch b1",
        "j3": "behind job j2 in branch b1",
        "k1": None,
        "l1": "waiting for a worker",
    }
    assert [reasons(other)["j1"] for other in others] == [f"waiting for a user slot, position {n} of 2" for n in (1, 2)]
    assert [body(flow)["queue_position"] for flow in (workflow, *others)] == [None, 1, 2]


def test_a_job_of_a_users_branch_waits_for_the_one_in_another_workflow(alice: User, leader: Leader) -> None:
    submit(alice, "mask b1", branch_scope="user")
    later = submit(alice, "cells b1", branch_scope="user")
    leader.settle()
    assert reasons(later) == {"cells": "behind job mask in branch b1"}


def test_a_job_that_depends_on_others_waits_for_the_first_unfinished_of_them(alice: User, leader: Leader) -> None:
    workflow = submit(alice, "j1", "k1 b2", JobRequest(job_id="m", branch="b3", job_type="TISSUE_MASK", depends_on=("k1", "j1")))
    leader.settle()
    assert reasons(workflow)["m"] == "waiting for job k1"
    assert [job["depends_on"] for job in body(workflow)["jobs"]] == [[], [], ["k1", "j1"]]
    leader.end(workflow, "k1")
    assert reasons(workflow)["m"] == "waiting for job j1"
    leader.end(workflow, "j1")
    assert reasons(workflow)["m"] is None


def test_a_retried_job_waits_for_the_later_one_that_runs(alice: User, leader: Leader) -> None:
    workflow = submit(alice, "j1", "j2", "j3")
    leader.look()
    leader.end(workflow, "j1", F)
    workflow_retry(workflow=workflow, actor="alice")
    assert reasons(workflow) == {"j1": "behind job j2 in branch b1", "j2": None, "j3": "behind job j2 in branch b1"}


def test_without_a_scheduler_that_is_the_reason_of_all(alice: User, leader: Leader) -> None:
    workflow = submit(alice, "j1", "j2")
    leader.lease.resign()
    assert reasons(workflow) == dict.fromkeys(("j1", "j2"), "scheduler is not running")


def test_a_queue_that_no_worker_serves_is_the_reason(alice: User, leader: Leader) -> None:
    workflow = submit(alice)
    leader.settle()
    Job.objects.update(queue="gpu", state="PENDING")
    assert reasons(workflow) == {"j1": "waiting for a gpu worker"}


# -- rows


def test_rows_say_the_same_as_bodies(alice: User, leader: Leader) -> None:
    flows = [submit(alice, "j1", "j2 b2", "j3 b2"), submit(alice, "j1"), submit(alice, slide=new_slide(alice).pk)]
    leader.settle()
    Job.objects.filter(pk=job_of(flows[0], "j2").pk).update(tiles_processed=5)
    leader.end(flows[1], state=F, tiles_processed=4)
    found = list(selectors.workflow_query(user=alice))
    for row, workflow in zip(selectors.workflow_rows(found), found, strict=True):
        whole = body(workflow)
        jobs = whole.pop("jobs")
        counted = {state: sum(job["state"] == state for job in jobs) for state in row["job_counts"]}
        assert list(row)[:11] == ["workflow_id", "user_id", "status", "job_counts", *WORKFLOW_KEYS[4:], *TIME_KEYS]
        assert row["job_counts"] == counted
        assert list(counted) == ["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"]
        assert row["progress"] == pytest.approx(whole.pop("progress"))
        assert {key: row[key] for key in whole} == whole
        assert row["tiles_processed"] == sum(job["tiles_processed"] for job in jobs)
        assert row["tiles_total"] == sum(job["tiles_total"] or 0 for job in jobs)
        assert row["branches"] == len({job["branch"] for job in jobs})
        assert row["number"] == workflow.pk


def test_no_rows_of_no_workflows() -> None:
    assert selectors.workflow_rows([]) == []


def test_statements_do_not_grow_with_jobs_users_and_workflows(leader: Leader, django_assert_max_num_queries: Any) -> None:
    stefanie = new_user("stefanie", is_staff=True)
    for n in range(6):
        submit(new_user(f"user{n}"), *[f"j{k} b{k % 5}" for k in range(30)])
    with django_assert_max_num_queries(12):
        body(Workflow.objects.order_by("id")[0])
    with django_assert_max_num_queries(10):
        rows = selectors.workflow_rows(list(selectors.workflow_query(user=stefanie)))
    assert sorted(row["queue_position"] for row in rows) == [1, 2, 3, 4, 5, 6]


# -- what may be seen


@pytest.mark.parametrize("key", ["no-uuid", "", "00000000-0000-0000-0000-000000000000", "1"])
def test_what_is_not_there_is_not_found(alice: User, key: str) -> None:
    with pytest.raises(NotFound):
        selectors.workflow_get(user=alice, workflow_uuid=key)


def test_the_workflow_of_another_user_is_not_there_except_for_staff(alice: User) -> None:
    workflow = submit(alice)
    assert selectors.workflow_get(user=alice, workflow_uuid=workflow.uuid) == workflow
    assert selectors.workflow_get(user=new_user("stefanie", is_staff=True), workflow_uuid=str(workflow.uuid)) == workflow
    bob = new_user("bob")
    for read in (
        lambda: selectors.workflow_get(user=bob, workflow_uuid=workflow.uuid),
        lambda: selectors.job_get(user=bob, workflow_uuid=workflow.uuid, job_id="j1"),
        lambda: selectors.job_get(user=alice, workflow_uuid=workflow.uuid, job_id="j9"),
    ):
        with pytest.raises(NotFound):
            read()
    assert not selectors.workflow_query(user=bob).exists()


def numbers(user: User, **filters: str) -> list[str]:
    """Names of the workflows that meet the filters."""
    return [workflow.name for workflow in selectors.workflow_query(user=user, **filters)]


def test_the_list_is_newest_first_and_meets_every_filter(alice: User) -> None:
    slide = new_slide(alice, "Tonsil 7.svs")
    first = submit(alice, "j1 b1", "j2 b1", "x b2", name="first")
    submit(alice, JobRequest(job_id="mask", branch="b2", job_type="TISSUE_MASK"), "j2 b2", name="second", slide=slide.pk)
    submit(new_user("bob"), name="of bob")
    workflow_cancel(workflow=first, actor="alice")
    assert numbers(alice) == ["second", "first"]
    assert numbers(alice, status="CANCELLED") == ["first"]
    assert numbers(alice, branch="b2") == ["second", "first"]
    assert numbers(alice, branch="b1") == ["first"]
    assert numbers(alice, job_type="TISSUE_MASK") == ["second"]
    assert numbers(alice, branch="b2", job_type="TISSUE_MASK", status="ACCEPTED") == ["second"]
    assert numbers(alice, branch="b1", job_type="TISSUE_MASK") == []
    assert numbers(alice, search="FIRS") == ["first"]
    assert numbers(alice, search="j2") == ["second", "first"]
    assert numbers(alice, search="tonsil") == ["second"]
    assert numbers(alice, search=str(first.uuid)) == ["first"]
    assert numbers(alice, search="%") == []


# -- results and activity


def test_artifacts_are_listed_once_the_job_has_succeeded(alice: User, leader: Leader) -> None:
    workflow = submit(alice)
    leader.look()
    with pytest.raises(NotFound):
        selectors.job_artifacts(job_of(workflow))
    artifact = {"name": "results.json", "size": 2, "sha256": "00"}
    leader.end(workflow, artifacts=(artifact,))
    job = job_of(workflow)
    assert selectors.job_artifacts(job) == [artifact]
    assert selectors.artifact_path(job, "results.json") == Path(settings.DATA_DIR) / "results" / str(job.uuid) / "results.json"


@pytest.mark.parametrize("name", ["other.json", "../results.json", "", ".", "results.json/", "/etc/passwd", ".parts"])
def test_a_name_that_is_no_artifact_never_becomes_a_path(alice: User, leader: Leader, name: str) -> None:
    workflow = submit(alice)
    leader.look()
    leader.end(workflow, artifacts=({"name": "results.json", "size": 2, "sha256": "00"},))
    with pytest.raises(NotFound):
        selectors.artifact_path(job_of(workflow), name)


def test_the_activity_tells_the_story_newest_first(alice: User, leader: Leader) -> None:
    workflow = submit(alice)
    leader.look()
    leader.end(workflow, state=F, error="Tile 3: boom")
    story = selectors.workflow_activity(workflow)
    assert [event["type"] for event in story] == ["workflow.finished", "job.finished", "job.started", "workflow.submitted"]
    assert list(story[1]) == ["id", "at", "type", "actor", "reason", "job_id", "data"]
    assert (story[1]["actor"], story[1]["reason"], story[1]["job_id"]) == ("scheduler", "Tile 3: boom", "j1")
    assert (story[0]["job_id"], story[3]["actor"]) == (None, "alice")
    assert all(TIME.fullmatch(event["at"]) for event in story)
    assert [event["type"] for event in selectors.workflow_activity(workflow, limit=2)] == ["workflow.finished", "job.finished"]


def test_the_slides_of_a_workflow_have_names(alice: User) -> None:
    slide = new_slide(alice, "Tonsil 7.svs")
    assert selectors.slide_names(submit(alice, "j1", "j2", slide=slide.pk)) == {str(slide.pk): "Tonsil 7.svs"}
    assert selectors.slide_names(submit(alice)) == {}

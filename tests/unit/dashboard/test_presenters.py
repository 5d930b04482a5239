"""State -> look, foot, percent; standing in the queue; the stacked bar."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from dashboard import presenters
from dashboard.activity import activity_line
from dashboard.rows import Standing

NOW = datetime(2026, 1, 2, 3, 5, 5, tzinfo=UTC)
STARTED = "2026-01-02T03:04:05.000000Z"
MEASURED = {"started_at": STARTED, "tiles_per_s": 0.1, "estimated_end": "2026-01-02T03:07:25.000000Z"}


def job(**changes: Any) -> dict[str, Any]:
    plain = {
        "job_id": "j1", "branch": "b", "job_type": "TISSUE_MASK", "state": "PENDING", "tiles_total": 20, "tiles_processed": 0, "progress": 0.0,
        "id": "x", "attempt": 1, "waiting_reason": None, "error": None, "warnings": [], "slide": None, "started_at": None, "finished_at": None,
        "depends_on": [], "tiles_per_s": None, "estimated_end": None,
    }  # fmt: skip
    return plain | changes


@pytest.mark.parametrize(
    ("changes", "look"),
    [
        ({"waiting_reason": "waiting for a worker"}, "queued"),
        ({"waiting_reason": "waiting for a user slot, position 2 of 5"}, "queued"),
        ({"waiting_reason": "behind job j0 in branch b"}, "held"),
        ({"waiting_reason": "waiting for job j3"}, "held"),
        ({"waiting_reason": "retrying in 8 s"}, "retrying"),
        ({"state": "RUNNING"}, "running"),
        ({"state": "SUCCEEDED"}, "succeeded"),
        ({"state": "FAILED", "error": "broken"}, "failed"),
        ({"state": "CANCELLED", "error": "cancelled by amelie"}, "cancelled"),
        ({"state": "CANCELLED", "error": "job j0 failed"}, "skipped"),
    ],
)
def test_each_state_has_its_own_look(changes: dict[str, Any], look: str) -> None:
    assert presenters.job_look(job(**changes)) == look
    assert look in presenters.LOOKS


@pytest.mark.parametrize(
    ("changes", "foot"),
    [
        ({"waiting_reason": "behind job j0 in branch b"}, "behind job j0 in branch b"),
        ({"state": "RUNNING", "tiles_total": None, "started_at": STARTED}, "planning"),
        ({"state": "RUNNING", "tiles_processed": 6, **MEASURED}, "0.1 tiles/s · about 2m 30s left"),
        ({"state": "RUNNING", "tiles_processed": 6, "attempt": 2, **MEASURED}, "0.1 tiles/s · about 2m 30s left"),
        ({"state": "RUNNING", "tiles_processed": 6, "tiles_per_s": 57.4, "estimated_end": STARTED}, "57 tiles/s · about 5s left"),
        ({"state": "RUNNING", "tiles_processed": 20, "started_at": STARTED}, "writing results"),
        ({"state": "RUNNING", "tiles_processed": 6, "started_at": STARTED}, "just started"),
        ({"state": "SUCCEEDED", "started_at": STARTED, "finished_at": "2026-01-02T03:04:26.000000Z"}, "took 21s"),
        ({"state": "FAILED", "started_at": STARTED, "finished_at": "2026-01-02T03:04:26.000000Z"}, "failed after 21s"),
        ({"state": "CANCELLED", "error": "job j0 failed"}, "job j0 failed"),
    ],
)
def test_the_foot_of_a_card_says_what_matters_now(changes: dict[str, Any], foot: str) -> None:
    assert presenters.job_foot(job(**changes), NOW) == foot


def queue(active: list[dict[str, Any]], waiting: list[dict[str, Any]]) -> dict[str, Any]:
    return {"active": active, "waiting": waiting, "max_concurrent_users": 3, "workers": []}


def standing(body: dict[str, Any]) -> Standing:
    return Standing(queue=body, user_id="amelie", now=NOW)


def test_an_active_user_sees_own_work_and_slot() -> None:
    mine = {"user_id": "amelie", "since": STARTED, "running": 2, "waiting": 7}
    found = standing(queue([{"user_id": None, "since": STARTED, "running": 1, "waiting": 0}, mine], []))
    assert (found.headline, found.detail) == ("You are active", "since 1m 00s · 2 jobs running, 7 waiting")
    assert found.slots == ["taken", "mine", "free"]


@pytest.mark.parametrize(("start", "told"), [(None, ""), ("2026-01-02T03:06:05.000000Z", ", in about 1m 00s"), (STARTED, ", in about 5s")])
def test_a_waiting_user_sees_the_position(start: str | None, told: str) -> None:
    waiting = [
        {"user_id": None, "position": 1, "since": STARTED, "jobs": 3, "estimated_start": None},
        {"user_id": "amelie", "position": 2, "since": STARTED, "jobs": 1, "estimated_start": start},
    ]
    found = standing(queue([], waiting))
    assert (found.headline, found.detail) == ("You are number 2 in the queue", f"of 2 waiting users · 1 job{told}")


def page(*jobs: dict[str, Any], **changes: Any) -> presenters.WorkflowPage:
    body = {"status": "RUNNING", "paused": False, "started_at": STARTED, "finished_at": None, "user_id": "amelie", "queue_position": None}
    return presenters.WorkflowPage(body={**body, "estimated_start": None, "jobs": jobs, **changes}, number=1, now=NOW)


def test_a_workflow_goes_at_the_pace_of_its_running_jobs_else_at_its_mean() -> None:
    fast, slow = job(state="RUNNING", tiles_processed=5, tiles_per_s=1.5), job(state="RUNNING", tiles_processed=5, tiles_per_s=0.5)
    ended = job(state="SUCCEEDED", tiles_processed=20, tiles_per_s=None)
    assert (page(fast, slow, ended).rate, page(fast, slow, ended).time_left) == (2.0, "about 15s")
    assert page(ended, job()).rate == pytest.approx(20 / 60)
    assert page(fast, paused=True).time_left == "not known yet"
    assert page(fast, finished_at="2026-01-02T03:04:15.000000Z", status="SUCCEEDED").rate == 0.5


def test_a_waiting_workflow_says_when_it_will_start_if_that_is_known() -> None:
    waits = "amelie is number 2 of the waiting users; jobs start when a slot becomes free"
    assert page(queue_position=2).queued_text == f"{waits}."
    assert page(queue_position=2, estimated_start="2026-01-02T03:06:05.000000Z").queued_text == f"{waits}, in about 1m 00s."


def test_a_user_without_work_is_told_so() -> None:
    assert standing(queue([], [])).headline == "You have no work"


def test_the_stacked_bar_puts_states_side_by_side() -> None:
    jobs = [job(state="SUCCEEDED", progress=1.0), job(state="RUNNING", progress=0.5), job(state="FAILED", progress=0.5), job()]
    assert presenters.stacked(jobs) == [
        ("succeeded", 0.0, 25.0), ("running", 25.0, 12.5), ("failed", 37.5, 12.5), ("cancelled", 50.0, 0.0), ("queued", 50.0, 0.0),
    ]  # fmt: skip


def test_an_event_without_words_of_its_own_is_shown_by_its_name() -> None:
    event = {"id": 1, "at": STARTED, "type": "job.lost_worker", "actor": "scheduler", "reason": "", "job_id": "j1", "data": {}}
    assert activity_line(event, NOW).text == "j1 lost worker"


@pytest.mark.parametrize(
    ("needs", "text"),
    [
        ([], ""),
        (["j1"], "after j1"),
        (["j1", "j3", "a"], "after j1, j3, a"),
        ([f"j{n}" for n in range(1200)], "after j0, j1, j2 and 1,197 more"),
    ],
)
def test_a_card_names_the_first_jobs_that_its_job_depends_on(needs: list[str], text: str) -> None:
    card = presenters.JobCard(body=job(depends_on=needs), title="Tissue mask", slide=None, foot="")
    assert card.after == text


@pytest.mark.parametrize(("status", "icon"), [("SUCCEEDED", "st-succeeded"), ("FAILED", "st-failed"), ("CANCELLED", "st-cancelled")])
def test_the_end_of_a_workflow_looks_like_its_status(status: str, icon: str) -> None:
    event = {"id": 1, "at": STARTED, "type": "workflow.finished", "actor": "", "reason": "", "job_id": None, "data": {"status": status}}
    line = activity_line(event, NOW)
    assert (line.text, line.look, line.icon) == (f"Workflow {status.lower()}", status.lower(), icon)


@pytest.mark.parametrize(("reason", "shown"), [("cancelled", ""), ("cancelled by amelie", "cancelled by amelie")])
def test_a_reason_that_only_repeats_the_event_is_left_out(reason: str, shown: str) -> None:
    event = {"id": 1, "at": STARTED, "type": "job.finished", "actor": "", "reason": reason, "job_id": "j1", "data": {"state": "CANCELLED"}}
    assert activity_line(event, NOW).reason == shown


def test_a_job_answered_from_earlier_work_is_said_to_be() -> None:
    data = {"state": "SUCCEEDED", "cached": True}
    line = activity_line({"id": 1, "at": STARTED, "type": "job.finished", "actor": "", "reason": "", "job_id": "j1", "data": data}, NOW)
    assert (line.text, line.reason) == ("j1 succeeded", "taken from the same work done before")


@pytest.mark.parametrize(("status", "look"), [("RUNNING", "paused"), ("ACCEPTED", "paused"), ("FAILED", "failed")])
def test_an_unfinished_workflow_that_is_paused_looks_so(status: str, look: str) -> None:
    assert presenters.workflow_look({"status": status, "paused": True}) == look

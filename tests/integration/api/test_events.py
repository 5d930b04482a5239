"""The event log of a workflow: in order, by pages, from where the reader left off, to its owner and the staff alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rest_framework.test import APIClient

from scheduling.models import Event, Job, Workflow
from tests.integration.api.conftest import finish
from tests.integration.working import lead

Submit = Callable[..., str]


def read(client: APIClient, workflow_id: str, query: str = "") -> dict[str, Any]:
    answer = client.get(f"/workflow/{workflow_id}/events{query}")
    assert answer.status_code == 200, answer.content
    return dict(answer.json())


def test_a_workflow_tells_what_has_happened_to_it_in_order(alice: APIClient, submit: Submit) -> None:
    submit()
    workflow_id = submit()
    lead().settle()
    page = read(alice, workflow_id)
    assert [event["type"] for event in page["results"]] == [
        *("workflow.submitted", "job.submitted", "job.submitted"),
        *("job.started", "workflow.started"),
    ]
    assert [event["id"] for event in page["results"]] == sorted(event["id"] for event in page["results"])
    started = page["results"][3]
    job = Job.objects.get(workflow__uuid=workflow_id, job_id="j1")
    assert (started["job_id"], started["job"], started["epoch"], started["term"]) == ("j1", str(job.uuid), job.epoch, job.term)
    assert (started["actor"], started["data"]["branch"]) == ("scheduler", "b1")
    assert page["results"][0] | {"at": "", "id": 0} == {
        **{"id": 0, "at": "", "type": "workflow.submitted", "actor": "alice", "reason": "", "term": 0, "epoch": 0},
        **{"job_id": None, "job": None, "data": {"jobs": 2, "branches": 1, "branch_scope": "workflow", "on_failure": "continue"}},
    }
    assert (page["next"], page["after"]) == (None, page["results"][-1]["id"])


def test_pages_follow_one_another_and_nothing_is_missed_or_doubled(alice: APIClient, submit: Submit) -> None:
    workflow_id = submit()
    whole = read(alice, workflow_id)["results"]
    page = read(alice, workflow_id, "?limit=2&format=json")
    assert page["after"] == whole[1]["id"]
    found = page["results"]
    while page["next"]:
        page = alice.get(page["next"]).json()
        found += page["results"]
    assert found == whole
    nothing = read(alice, workflow_id, f"?after={page['after']}")
    assert nothing == {"results": [], "next": None, "after": whole[-1]["id"]}
    assert alice.post(f"/workflow/{workflow_id}/cancel").status_code == 202
    later = read(alice, workflow_id, f"?after={nothing['after']}")
    assert [event["type"] for event in later["results"]] == ["job.finished", "job.finished", "workflow.finished"]


def test_a_page_is_a_hundred_unless_asked_for_and_a_thousand_at_most(alice: APIClient, submit: Submit) -> None:
    workflow_id = submit()
    uuid = Workflow.objects.get(uuid=workflow_id).uuid
    Event.objects.bulk_create(Event(type="job.taken_back", workflow_uuid=uuid, actor="scheduler") for _ in range(1200))
    assert len(read(alice, workflow_id)["results"]) == 100
    assert len(read(alice, workflow_id, "?limit=1000")["results"]) == 1000
    assert read(alice, workflow_id, f"?after={2**63 - 1}")["results"] == []


@pytest.mark.parametrize("name", ["after", "limit"])
@pytest.mark.parametrize("value", ["x", "-1", "1.5", "", "%00", "9" * 30, "9" * 2000, "1e3", "null"])
def test_what_is_no_number_is_refused_by_its_name(alice: APIClient, submit: Submit, name: str, value: str) -> None:
    answer = alice.get(f"/workflow/{submit()}/events?{name}={value}")
    assert (answer.status_code, list(answer.json())) == (400, [name])


@pytest.mark.parametrize("limit", [0, 1001])
def test_a_page_of_nothing_or_of_too_much_is_refused(alice: APIClient, submit: Submit, limit: int) -> None:
    answer = alice.get(f"/workflow/{submit()}/events?limit={limit}")
    assert (answer.status_code, list(answer.json())) == (400, ["limit"])


def test_only_the_owner_and_the_staff_may_read(alice: APIClient, bob: APIClient, staff: APIClient, submit: Submit) -> None:
    workflow_id = submit()
    missing = bob.get("/workflow/00000000-0000-0000-0000-000000000000/events")
    refused = bob.get(f"/workflow/{workflow_id}/events?limit=0")
    assert (refused.status_code, refused.json()) == (missing.status_code, missing.json()) == (404, {"detail": "Not found."})
    assert APIClient().get(f"/workflow/{workflow_id}/events").status_code == 401
    assert read(staff, workflow_id) == read(alice, workflow_id)
    assert alice.post(f"/workflow/{workflow_id}/events").status_code == 405


def test_a_deleted_workflow_is_gone_with_its_log(alice: APIClient, submit: Submit) -> None:
    workflow_id = submit()
    finish(workflow_id)
    assert alice.delete(f"/workflow/{workflow_id}").status_code == 204
    assert alice.get(f"/workflow/{workflow_id}/events").status_code == 404
    assert Event.objects.filter(type="workflow.deleted", workflow_uuid=workflow_id).exists()

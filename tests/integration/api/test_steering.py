"""Cancel, retry and delete over HTTP."""

from __future__ import annotations

from collections.abc import Callable

from rest_framework.test import APIClient

from scheduling.models import Job
from scheduling.states import JobState
from tests.integration.api.conftest import finish


def states(workflow_id: str) -> list[str]:
    return list(Job.objects.filter(workflow__uuid=workflow_id).order_by("id").values_list("state", flat=True))


def test_cancel_ends_waiting_jobs_at_once_and_refuses_a_second_time(alice: APIClient, submit: Callable[..., str]) -> None:
    workflow_id = submit()
    answer = alice.post(f"/workflow/{workflow_id}/cancel")
    assert answer.status_code == 202
    assert answer.json() == {"workflow_id": workflow_id, "status": "CANCELLED"}
    assert states(workflow_id) == ["CANCELLED", "CANCELLED"]
    assert alice.post(f"/workflow/{workflow_id}/cancel").status_code == 409


def test_retry_brings_failed_jobs_back_and_refuses_when_there_is_none(alice: APIClient, submit: Callable[..., str]) -> None:
    workflow_id = submit()
    assert alice.post(f"/workflow/{workflow_id}/retry").status_code == 409
    finish(workflow_id, JobState.FAILED)
    assert alice.post(f"/workflow/{workflow_id}/retry").status_code == 202
    jobs = alice.get(f"/workflow/{workflow_id}").json()["jobs"]
    assert [(job["state"], job["attempt"]) for job in jobs] == [("PENDING", 2), ("PENDING", 2)]


def test_one_job_is_cancelled_and_retried_by_its_own_id(alice: APIClient, submit: Callable[..., str]) -> None:
    workflow_id = submit()
    assert alice.post(f"/workflow/{workflow_id}/job/j2/cancel").status_code == 202
    assert states(workflow_id) == ["PENDING", "CANCELLED"]
    assert alice.post(f"/workflow/{workflow_id}/job/j2/cancel").status_code == 409
    assert alice.post(f"/workflow/{workflow_id}/job/j2/retry").status_code == 202
    assert states(workflow_id) == ["PENDING", "PENDING"]
    assert alice.post(f"/workflow/{workflow_id}/job/j3/cancel").status_code == 404


def test_delete_refuses_while_unfinished_and_takes_everything_afterwards(alice: APIClient, submit: Callable[..., str]) -> None:
    workflow_id = submit()
    assert alice.delete(f"/workflow/{workflow_id}").status_code == 409
    finish(workflow_id)
    assert alice.delete(f"/workflow/{workflow_id}").status_code == 204
    assert alice.get(f"/workflow/{workflow_id}").status_code == 404
    assert states(workflow_id) == []


def test_pause_holds_a_workflow_and_resume_lets_it_go_on(alice: APIClient, submit: Callable[..., str]) -> None:
    workflow_id = submit()
    answer = alice.post(f"/workflow/{workflow_id}/pause")
    assert answer.status_code == 202
    assert answer.json()["paused"] is True
    assert answer.json() == alice.get(f"/workflow/{workflow_id}").json()
    assert answer.json()["queue_position"] is None, "paused work does not queue"
    assert alice.post(f"/workflow/{workflow_id}/pause").status_code == 202, "to pause what is paused changes nothing"
    resumed = alice.post(f"/workflow/{workflow_id}/resume")
    assert (resumed.status_code, resumed.json()["paused"], resumed.json()["queue_position"]) == (202, False, 1)


def test_a_finished_workflow_and_a_strangers_are_not_paused(alice: APIClient, bob: APIClient, submit: Callable[..., str]) -> None:
    workflow_id = submit()
    for verb in ("pause", "resume"):
        assert bob.post(f"/workflow/{workflow_id}/{verb}").status_code == 404
    alice.post(f"/workflow/{workflow_id}/cancel")
    for verb in ("pause", "resume"):
        assert alice.post(f"/workflow/{workflow_id}/{verb}").status_code == 409

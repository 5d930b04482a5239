"""POST /workflow with `depends_on`, `cache` and `timeout_s`: what is kept, how what can never be met is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rest_framework.test import APIClient

from scheduling.models import Job, Workflow

JOB = {"job_type": "TISSUE_MASK"}


def a_job(job_id: str, branch: str, *depends_on: str, **fields: Any) -> dict[str, Any]:
    """A simulated job that depends on others."""
    return {**JOB, "job_id": job_id, "branch": branch, "depends_on": list(depends_on), **fields}


def refusal(client: APIClient, *jobs: dict[str, Any]) -> Any:
    """What is said about the jobs."""
    answer = client.post("/workflow", {"jobs": list(jobs)})
    assert answer.status_code == 400
    assert not Workflow.objects.exists()
    return answer.json()["jobs"]


def test_dependencies_stand_in_the_body_with_why_the_job_waits(
    alice: APIClient, submit: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduling.selectors.workflows.scheduler_standing", lambda: (True, False))
    read = alice.get(f"/workflow/{submit([a_job('j1', 'b1', 'j2', 'j3'), a_job('j2', 'b2'), a_job('j3', 'b3')])}").json()
    assert [job["depends_on"] for job in read["jobs"]] == [["j2", "j3"], [], []]
    assert read["jobs"][0]["waiting_reason"] == "waiting for job j2"


def test_a_job_that_is_not_there_is_refused_at_its_place(alice: APIClient) -> None:
    said = refusal(alice, a_job("j1", "b1"), a_job("j2", "b2", "j1"), a_job("j3", "b3", "x"))
    assert said == [{}, {}, {"depends_on": ["There is no job 'x' in this workflow."]}]


def test_a_circle_is_refused_and_spelled_out(alice: APIClient) -> None:
    said = refusal(alice, a_job("j3", "b1", "j1"), a_job("j1", "b1"))
    assert said == [{"depends_on": ["The jobs wait for each other: j3 needs j1, j1 comes after j3 in branch b1."]}]


@pytest.mark.parametrize(
    ("workflow", "job", "kept"),
    [({}, {}, True), ({"cache": False}, {}, False), ({"cache": False}, {"cache": True}, True), ({"cache": True}, {"cache": False}, False)],
    ids=["by default", "as the workflow says", "as the job says", "as the job says against re-use"],
)
def test_whether_earlier_work_is_used_again_is_kept(
    alice: APIClient, submit: Callable[..., str], workflow: dict[str, bool], job: dict[str, bool], kept: bool
) -> None:
    read = alice.get(f"/workflow/{submit([a_job('j', 'b', **job)], **workflow)}").json()
    assert (read["jobs"][0]["cache"], read["jobs"][0]["cached"]) == (kept, False)


@pytest.mark.parametrize("timeout_s", [0.5, 60, 2_592_000, None])
def test_the_time_that_a_job_may_run_is_kept(alice: APIClient, submit: Callable[..., str], timeout_s: float | None) -> None:
    read = alice.get(f"/workflow/{submit([a_job('j', 'b', timeout_s=timeout_s)])}").json()
    assert read["jobs"][0]["timeout_s"] == timeout_s
    assert Job.objects.get().timeout_s == timeout_s


def test_a_thousand_jobs_that_depend_on_many_are_accepted(alice: APIClient, submit: Callable[..., str]) -> None:
    names = [f"j{n}" for n in range(1000)]
    jobs = [a_job(name, f"b{n % 50}", *names[max(0, n - 20) : n]) for n, name in enumerate(names)]
    read = alice.get(f"/workflow/{submit(jobs)}").json()
    assert [job["depends_on"] for job in read["jobs"]] == [job["depends_on"] for job in jobs]

"""GET of workflows, the queue and the job types: bodies, pages, filters, and what outsiders see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rest_framework.test import APIClient

from tests.integration.api.conftest import JOBS, finish


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [row["workflow_id"] for row in answer.json()["results"]]


def walk(client: APIClient, path: str) -> list[list[str]]:
    pages = []
    link: str | None = path
    while link:
        answer = client.get(link)
        pages.append(ids(answer))
        link = answer.json()["next"]
    return pages


def test_a_list_gives_every_workflow_once_newest_first(alice: APIClient, submit: Callable[..., str]) -> None:
    made = [submit(name=f"batch {i}") for i in range(53)]
    pages = walk(alice, "/workflow")
    assert [len(page) for page in pages] == [50, 3]
    assert [key for page in pages for key in page] == made[::-1]


def test_a_list_read_while_others_come_repeats_nothing(alice: APIClient, submit: Callable[..., str]) -> None:
    made = [submit() for _ in range(51)]
    first = alice.get("/workflow")
    submit()
    second = alice.get(first.json()["next"])
    assert ids(first) + ids(second) == made[::-1]
    assert ids(alice.get(second.json()["previous"])) == ids(first)


def test_a_row_counts_its_jobs_by_state(alice: APIClient, submit: Callable[..., str]) -> None:
    finish(submit())
    row = alice.get("/workflow").json()["results"][0]
    assert row["job_counts"] == {"PENDING": 0, "RUNNING": 0, "SUCCEEDED": 2, "FAILED": 0, "CANCELLED": 0}
    assert "jobs" not in row


def test_filters_choose(alice: APIClient, submit: Callable[..., str]) -> None:
    one = submit([{**JOBS[0], "branch": "special"}], name="first")
    two = submit([{**JOBS[1], "job_id": "needle"}], name="second")
    finish(one)
    assert ids(alice.get("/workflow?branch=special")) == [one]
    assert ids(alice.get("/workflow?job_type=TISSUE_MASK")) == [two]
    assert ids(alice.get("/workflow?status=SUCCEEDED")) == [one]
    assert ids(alice.get("/workflow?status=ACCEPTED&search=FIRST")) == []
    assert ids(alice.get("/workflow?search=needle")) == [two]
    assert ids(alice.get(f"/workflow?search={one}")) == [one]
    assert ids(alice.get("/workflow?status=&branch=&search=")) == [two, one]


@pytest.mark.parametrize(
    "query",
    [
        "status=NOPE",
        "status=succeeded",
        "search=%00",
        "branch=a%00",
        f"search={'x' * 300}",
        "cursor=nonsense",
        "cursor=cD1hYmM%3D",  # p=abc
        "cursor=cD05OTk5OTk5OTk5OTk5OTk5OTk5OTk5",  # p=9999…
        "cursor=bz0tMQ%3D%3D",  # o=-1
        "cursor=%ff",
    ],
)
def test_a_filter_or_cursor_that_cannot_be_is_refused_by_name(alice: APIClient, query: str) -> None:
    answer = alice.get(f"/workflow?{query}")
    assert answer.status_code == 400, answer.content
    assert list(answer.json()) == [query.split("=")[0]]


@pytest.mark.parametrize("query", ["search=%ff", "search=%ed%a0%80", "unknown=1", "search=%25_%5C"])
def test_odd_queries_find_nothing_and_break_nothing(alice: APIClient, query: str) -> None:
    assert ids(alice.get(f"/workflow?{query}")) == []


def test_what_is_another_users_does_not_exist(bob: APIClient, submit: Callable[..., str]) -> None:
    mine = submit(name="secret")
    unknown = "00000000-0000-0000-0000-000000000000"
    calls = [("get", ""), ("delete", ""), ("post", "/cancel"), ("post", "/retry"), ("post", "/job/j1/cancel"), ("post", "/job/j1/retry")]
    for method, path in [*calls, ("get", "/job/j1/results"), ("get", "/job/j1/results/results.json")]:
        theirs = getattr(bob, method)(f"/workflow/{mine}{path}")
        missing = getattr(bob, method)(f"/workflow/{unknown}{path}")
        assert theirs.status_code == missing.status_code == 404, (method, path)
        assert theirs.json() == missing.json() == {"detail": "Not found."}
    assert ids(bob.get("/workflow")) == []
    assert ids(bob.get("/workflow?search=secret")) == []


def test_staff_see_all(staff: APIClient, submit: Callable[..., str]) -> None:
    workflow_id = submit()
    assert ids(staff.get("/workflow")) == [workflow_id]
    assert staff.get(f"/workflow/{workflow_id}").json()["user_id"] == "alice"


@pytest.mark.parametrize(
    "path",
    [
        "/workflow/x",
        "/workflow/%00",
        "/workflow/",
        "/workflow/x/nope",
        "/workflow/x%0Ay/job/z%0A/retry",
        "/slide/x",
        "/slide/a/tile/0/0_0/",
        "/queue/x",
        "/job-types/",
        "/model/",
    ],
)
def test_unknown_paths_are_missing_in_json(alice: APIClient, path: str) -> None:
    answer = alice.get(path)
    assert answer.status_code == 404
    assert answer.json() == {"detail": "Not found."}


def test_a_wrong_method_is_refused_with_those_allowed(alice: APIClient, submit: Callable[..., str]) -> None:
    answer = alice.put(f"/workflow/{submit()}", {})
    assert answer.status_code == 405
    assert "GET" in answer["Allow"]


def test_the_queue_hides_other_users(alice: APIClient, bob: APIClient, staff: APIClient, submit: Callable[..., str]) -> None:
    submit()
    assert [entry["user_id"] for entry in alice.get("/queue").json()["waiting"]] == ["alice"]
    assert [entry["user_id"] for entry in bob.get("/queue").json()["waiting"]] == [None]
    assert [entry["user_id"] for entry in staff.get("/queue").json()["waiting"]] == ["alice"]


def test_job_types_are_described_with_their_parameters(alice: APIClient) -> None:
    types = {entry["name"]: entry for entry in alice.get("/job-types").json()}
    assert {"TISSUE_MASK", "SEGMENT_CELLS", "INSTANSEG_WSI"} <= set(types)
    assert types["SEGMENT_CELLS"]["parameters"]["type"] == "object"


@pytest.mark.parametrize("path", ["/workflow", "/slide", "/queue", "/job-types", "/model", "/workflow/{id}"])
def test_a_browser_gets_pages_that_run_no_inline_script(alice: APIClient, submit: Callable[..., str], path: str) -> None:
    answer = alice.get(path.format(id=submit()), HTTP_ACCEPT="text/html,application/xhtml+xml,*/*;q=0.8")
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/html")
    page = answer.content.decode()
    assert "<script>" not in page and " onclick=" not in page and "<style" not in page
    assert 'src="http' not in page and 'rel="stylesheet" href="http' not in page

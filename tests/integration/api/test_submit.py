"""POST /workflow: what is accepted, what is refused and how."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from rest_framework.test import APIClient

from scheduling.models import Slide, Workflow

JOB = {"job_id": "j", "branch": "b", "job_type": "TISSUE_MASK"}


def raw(client: APIClient, body: bytes, kind: str = "application/json", **headers: str) -> Any:
    return client.generic("POST", "/workflow", body, content_type=kind, **headers)


def test_submit_of_the_original_request_answers_as_the_original_did(alice: APIClient) -> None:
    answer = alice.post("/workflow", {"jobs": [{**JOB, "job_id": "j1"}, {**JOB, "job_id": "j2"}]})
    assert answer.status_code == 201
    body = answer.json()
    assert list(body) == ["workflow_id", "status"]
    assert body["status"] == "ACCEPTED"
    assert answer["Location"] == f"http://testserver/workflow/{body['workflow_id']}"
    read = alice.get(answer["Location"]).json()
    assert [job["job_id"] for job in read["jobs"]] == ["j1", "j2"]
    assert read["user_id"] == "alice"


def test_submit_with_everything_keeps_it(alice: APIClient, slide: Slide) -> None:
    body = {"name": "Batch 14", "slide": str(slide.pk), "branch_scope": "user", "on_failure": "stop", "jobs": [JOB]}
    workflow = Workflow.objects.get(uuid=alice.post("/workflow", body).json()["workflow_id"])
    assert (workflow.name, workflow.branch_scope, workflow.on_failure) == ("Batch 14", "user", "stop")
    assert workflow.jobs.get().slide_id == slide.pk


UNKNOWN = "00000000-0000-0000-0000-000000000000"
REFUSED: list[tuple[Any, str]] = [
    (None, "detail"),
    ([], "detail"),
    ("x", "detail"),
    (7, "detail"),
    ({}, "jobs"),
    ({"jobs": None}, "jobs"),
    ({"jobs": []}, "jobs"),
    ({"jobs": "x"}, "jobs"),
    ({"jobs": {"0": JOB}}, "jobs"),
    ({"jobs": [1]}, "jobs"),
    ({"jobs": [{}]}, "jobs"),
    ({"jobs": [JOB, JOB]}, "jobs"),
    ({"jobs": [{**JOB, "job_id": f"j{i}"} for i in range(1001)]}, "jobs"),
    ({"jobs": [JOB], "nope": 1}, "nope"),
    ({"jobs": [JOB], "": 1}, ""),
    ({"jobs": [JOB], "slide": UNKNOWN}, "slide"),
    ({"jobs": [JOB], "slide": "x"}, "slide"),
    ({"jobs": [JOB], "slide": 7}, "slide"),
    ({"jobs": [JOB], "branch_scope": "planet"}, "branch_scope"),
    ({"jobs": [JOB], "branch_scope": ["user"]}, "branch_scope"),
    ({"jobs": [JOB], "branch_scope": None}, "branch_scope"),
    ({"jobs": [JOB], "on_failure": "explode"}, "on_failure"),
    ({"jobs": [JOB], "cache": "no"}, "cache"),
    ({"jobs": [JOB], "cache": None}, "cache"),
    ({"jobs": [JOB], "name": "x" * 201}, "name"),
    ({"jobs": [JOB], "name": 5}, "name"),
    ({"jobs": [JOB], "name": True}, "name"),
    ({"jobs": [JOB], "name": None}, "name"),
    ({"jobs": [JOB], "name": "a\0b"}, "name"),
]


@pytest.mark.parametrize(("body", "field"), REFUSED)
def test_submit_of_a_malformed_body_names_the_field_and_leaves_nothing(alice: APIClient, body: Any, field: str) -> None:
    answer = raw(alice, json.dumps(body).encode())
    assert answer.status_code == 400, answer.content
    assert field in answer.json()
    assert not Workflow.objects.exists()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"job_type": "NOPE"}, "job_type"),
        ({"job_type": 3}, "job_type"),
        ({"branch": ""}, "branch"),
        ({"branch": None}, "branch"),
        ({"branch": "a b"}, "branch"),
        ({"branch": "b\n"}, "branch"),
        ({"branch": 1}, "branch"),
        ({"branch": False}, "branch"),
        ({"job_id": ".."}, "job_id"),
        ({"job_id": "."}, "job_id"),
        ({"job_id": "../x"}, "job_id"),
        ({"job_id": "x" * 129}, "job_id"),
        ({"job_id": 7.5}, "job_id"),
        ({"job_id": "a\0b"}, "job_id"),
        ({"job_id": "é"}, "job_id"),
        ({"job_id": ["x"]}, "job_id"),
        ({"parameters": 3}, "parameters"),
        ({"parameters": None}, "parameters"),
        ({"parameters": []}, "parameters"),
        ({"parameters": {"nope": 1}}, "parameters"),
        ({"parameters": {"tiles": 0}}, "parameters"),
        ({"parameters": {"tiles": 10**30}}, "parameters"),
        ({"parameters": {"tiles": "7"}}, "parameters"),
        ({"parameters": {"tiles": True}}, "parameters"),
        ({"parameters": {"a": {"b": ["\0"]}}}, "parameters"),
        ({"nope": 1}, "nope"),
        ({"slide": UNKNOWN}, "slide"),
        ({"slide": {}}, "slide"),
        ({"depends_on": "good"}, "depends_on"),
        ({"depends_on": None}, "depends_on"),
        ({"depends_on": [1]}, "depends_on"),
        ({"depends_on": {"good": 1}}, "depends_on"),
        ({"depends_on": ["nope"]}, "depends_on"),
        ({"depends_on": ["j"]}, "depends_on"),
        ({"depends_on": ["good", "good"]}, "depends_on"),
        ({"depends_on": [f"j{n}" for n in range(1001)]}, "depends_on"),
        ({"cache": None}, "cache"),
        ({"cache": "false"}, "cache"),
        ({"cache": 0}, "cache"),
        ({"cache": []}, "cache"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": -1}, "timeout_s"),
        ({"timeout_s": "60"}, "timeout_s"),
        ({"timeout_s": True}, "timeout_s"),
        ({"timeout_s": 2_592_000.5}, "timeout_s"),
        ({"timeout_s": 10**300}, "timeout_s"),
        ({"timeout_s": [60]}, "timeout_s"),
    ],
)
def test_submit_of_a_malformed_job_names_its_place_and_field(alice: APIClient, change: dict[str, Any], field: str) -> None:
    good = {**JOB, "job_id": "good"}
    answer = raw(alice, json.dumps({"jobs": [good, {**JOB, **change}]}).encode())
    assert answer.status_code == 400, answer.content
    places = answer.json()["jobs"]
    assert places[0] == {}
    assert list(places[1]) == [field]
    assert not Workflow.objects.exists()


def test_submit_with_unknown_keys_names_each_beside_other_errors(alice: APIClient) -> None:
    answer = alice.post("/workflow", {"jobs": [{**JOB, "branch": 1, "nope": 1}], "extra": 2})
    assert answer.json()["extra"] == ["Unknown key."]
    assert answer.json()["jobs"][0]["nope"] == ["Unknown key."]
    assert "branch" in answer.json()["jobs"][0]


def test_submit_with_another_users_slide_is_refused_like_a_missing_one(bob: APIClient, slide: Slide) -> None:
    answer = bob.post("/workflow", {"jobs": [JOB], "slide": str(slide.pk)})
    assert answer.status_code == 400
    assert list(answer.json()) == ["slide"]


def test_submit_of_parameters_outside_their_schema_names_the_parameter(alice: APIClient) -> None:
    answer = alice.post("/workflow", {"jobs": [{**JOB, "parameters": {"tiles": 0}}]})
    assert list(answer.json()["jobs"][0]["parameters"]) == ["tiles"]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"", "application/json", 400),
        (b'{"jobs": [NaN]}', "application/json", 400),
        (b'{"jobs": [{"parameters": {"x": Infinity}}]}', "application/json", 400),
        (b'{"jobs": [{"parameters": {"x": 1e999}}]}', "application/json", 400),
        (b'{"name": "\\ud800", "jobs": []}', "application/json", 400),
        (b'{"\\ud800": 1, "jobs": []}', "application/json", 400),
        (b'{"jobs":' + b"[" * 50_000, "application/json", 400),
        (b'{"jobs":' + b"[" * 500 + b"]" * 500 + b"}", "application/json", 400),
        (b'{"jobs": ' + b"9" * 5000 + b"}", "application/json", 400),
        (b" " * 2_000_000, "application/json", 413),
        (b"a=1", "text/csv", 415),
        (b"a=1", "application/x-www-form-urlencoded", 415),
        (b"{}", "nonsense", 415),
    ],
)
def test_submit_of_no_json_is_refused_with_a_reason(alice: APIClient, body: bytes, kind: str, status: int) -> None:
    answer = raw(alice, body, kind)
    assert answer.status_code == status, answer.content[:300]
    assert answer.json()
    assert not Workflow.objects.exists()


def test_submit_of_an_announced_long_body_is_refused_unread(alice: APIClient) -> None:
    answer = raw(alice, b"{}", CONTENT_LENGTH=str(2**21))
    assert answer.status_code == 413


def test_submit_without_a_length_is_refused_as_such(alice: APIClient) -> None:
    answer = raw(alice, b"", HTTP_TRANSFER_ENCODING="chunked", CONTENT_LENGTH="")
    assert answer.status_code == 411


def test_submit_of_a_thousand_jobs_is_accepted(alice: APIClient, submit: Callable[..., str]) -> None:
    workflow_id = submit([{**JOB, "job_id": f"j{i}", "branch": f"b{i % 10}"} for i in range(1000)])
    assert len(alice.get(f"/workflow/{workflow_id}").json()["jobs"]) == 1000

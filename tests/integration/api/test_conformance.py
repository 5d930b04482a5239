"""Answers keep what the schema promises, and no body whatever gives a server error."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from redis import Redis
from rest_framework.test import APIClient

from scheduling.models import Job, Slide
from scheduling.protocol import presence
from scheduling.states import JobState
from tests.integration.api.conftest import JOBS, finish, publish

HEARTBEAT = presence.Heartbeat(
    name="w", queues=("cpu",), processes=2, state="idle", bundles=("x",), heartbeat="2026-01-02T03:04:05.000006Z", version="1"
)
UNKNOWN = "00000000-0000-0000-0000-000000000000"
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@cache
def document() -> dict[str, Any]:
    return Client().get("/schema?format=json").json()  # type: ignore[no-any-return]


def _strict(node: Any) -> Any:
    """The same schema as JSON Schema: `nullable` becomes a type, and no object has more than it says."""
    if isinstance(node, list):
        return [_strict(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    made = {key: _strict(value) for key, value in node.items() if key != "nullable"}
    if "properties" in made:
        made.setdefault("additionalProperties", False)
    return {"anyOf": [made, {"type": "null"}]} if node.get("nullable") else made


def check(answer: Any, path: str, method: str = "get") -> None:
    content = document()["paths"][path][method]["responses"][str(answer.status_code)]["content"]["application/json"]
    whole = {**_strict(content["schema"]), "components": _strict(document()["components"])}
    errors = [f"{list(error.absolute_path)}: {error.message}" for error in Draft202012Validator(whole).iter_errors(answer.json())]
    assert not errors, errors


def test_bodies_are_what_the_schema_says(
    alice: APIClient, submit: Callable[..., str], slide: Slide, staff: APIClient, settings: Any
) -> None:
    done, failed, waiting = submit(name="a"), submit(), submit(slide=str(slide.pk))
    full = {"depends_on": ["j1"], "cache": False, "timeout_s": 60}
    linked = submit([{**JOBS[0], "job_id": "j1"}, {**JOBS[1], "branch": "b2", **full}], cache=True)
    finish(done)
    finish(failed, JobState.FAILED)
    publish(settings.DATA_DIR, done, "j1", {"results.json": b"[]"})
    for workflow_id in (done, failed, waiting, linked):
        check(alice.get(f"/workflow/{workflow_id}"), "/workflow/{workflow_id}")
        check(alice.get(f"/workflow/{workflow_id}/events?limit=2"), "/workflow/{workflow_id}/events")
    check(alice.get("/workflow"), "/workflow")
    check(alice.get(f"/workflow/{done}/job/j1/results"), "/workflow/{workflow_id}/job/{job_id}/results")
    check(alice.post(f"/workflow/{failed}/retry"), "/workflow/{workflow_id}/retry", "post")
    check(alice.get("/slide"), "/slide")
    drawn = alice.post(f"/slide/{slide.pk}/annotation?name=A", {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 900], [0, 0]]]})
    check(drawn, "/slide/{slide_id}/annotation", "post")
    annotation = drawn.json()["annotation_id"]
    check(alice.get(f"/slide/{slide.pk}/annotation"), "/slide/{slide_id}/annotation")
    check(alice.get(f"/slide/{slide.pk}/annotation/{annotation}"), "/slide/{slide_id}/annotation/{annotation_id}")
    limits = {"region": {"x": 1, "y": 2, "width": 3, "height": 4}, "annotation": annotation}
    limited = submit([{**JOBS[0], **limits}], slide=str(slide.pk))
    check(alice.get(f"/workflow/{limited}"), "/workflow/{workflow_id}")
    for slides in ([str(slide.pk), UNKNOWN], [UNKNOWN]):
        batch = alice.post("/workflow/batch", {"template": {"jobs": JOBS}, "slides": slides})
        assert len(batch.json()["errors"]) == 1
        check(batch, "/workflow/batch", "post")
    check(alice.get(f"/slide/{slide.pk}"), "/slide/{slide_id}")
    presence.beat(Redis.from_url(settings.ENV.redis_url), HEARTBEAT)
    check(alice.get("/queue"), "/queue")
    Job.objects.update(disk_bytes=5)
    answer = staff.get("/queue")
    check(answer, "/queue")
    assert answer.json()["disk"]
    assert answer.json()["workers"]
    check(alice.get("/job-types"), "/job-types")
    check(alice.get("/healthz"), "/healthz")
    check(alice.get("/readyz"), "/readyz")
    check(alice.post("/workflow", {"jobs": [{"job_id": "x", "branch": "b", "job_type": "TISSUE_MASK"}]}), "/workflow", "post")


text = st.text(max_size=12) | st.sampled_from(
    ["j1", "b1", "TISSUE_MASK", "\0", "..", "workflow", "é", "00000000-0000-0000-0000-000000000000"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3), max_leaves=8)
KEYS = ["job_id", "branch", "job_type", "parameters", "slide", "depends_on", "cache", "timeout_s", "region", "annotation", "requires"]
positions = st.lists(st.lists(st.floats() | st.integers() | text, max_size=3), max_size=6)
geometries = st.fixed_dictionaries(
    {"type": st.sampled_from(["Polygon", "MultiPolygon", "Feature", "FeatureCollection", "Point"]) | text},
    optional={
        "coordinates": st.lists(positions, max_size=2) | st.lists(st.lists(positions, max_size=2), max_size=2) | values,
        "features": st.lists(values, max_size=2),
        "geometry": values,
        "properties": values,
    },
)
regions = values | geometries | st.dictionaries(st.sampled_from(["x", "y", "width", "height"]), scalars, max_size=4)
parameters = st.dictionaries(st.sampled_from(["tiles", "seconds_per_tile", "fail_at_tile"]) | text, values, max_size=3)
good_job = st.fixed_dictionaries(
    {
        "job_id": st.sampled_from("abcd"),
        "branch": st.just("b"),
        "job_type": st.sampled_from(["TISSUE_MASK", "SEGMENT_CELLS", "INSTANSEG_WSI"]),
    },
    optional={
        "parameters": parameters,
        "depends_on": st.lists(st.sampled_from("abcd"), max_size=2),
        "timeout_s": st.floats() | st.integers(),
        "requires": st.sampled_from(["cpu", "gpu"]) | values,
    },
)
jobs = good_job | st.dictionaries(st.sampled_from(KEYS) | text, values, max_size=5)
bodies = values | st.fixed_dictionaries(
    {"jobs": st.lists(jobs, max_size=3) | values},
    optional={**dict.fromkeys(("name", "slide", "branch_scope", "on_failure", "cache", "x"), values), "region": regions},
)
batches = values | st.fixed_dictionaries(
    {"template": bodies},
    optional={
        "slides": st.lists(text, max_size=2) | values,
        **dict.fromkeys(("folder", "root", "pattern", "recursive", "name", "x"), values),
    },
)


@given(body=bodies)
@settings(max_examples=150, deadline=None, suppress_health_check=QUIET)
def test_no_body_gives_a_server_error(alice: APIClient, body: Any) -> None:
    answer = alice.generic("POST", "/workflow", json.dumps(body), content_type="application/json")
    assert answer.status_code in (201, 400), (body, answer.content)
    assert answer.json()


@given(body=geometries | st.lists(geometries | values, max_size=2) | values)
@settings(max_examples=150, deadline=None, suppress_health_check=QUIET)
def test_no_annotation_gives_a_server_error(alice: APIClient, slide: Slide, body: Any) -> None:
    answer = alice.generic("POST", f"/slide/{slide.pk}/annotation", json.dumps(body), content_type="application/geo+json")
    assert answer.status_code in (201, 400), (body, answer.content)
    assert answer.json()


@given(body=batches)
@settings(max_examples=150, deadline=None, suppress_health_check=QUIET)
def test_no_batch_gives_a_server_error(alice: APIClient, body: Any) -> None:
    answer = alice.generic("POST", "/workflow/batch", json.dumps(body), content_type="application/json")
    assert answer.status_code in (201, 400), (body, answer.content)
    assert answer.json()


@given(area=regions)
@settings(max_examples=150, deadline=None, suppress_health_check=QUIET)
def test_no_region_gives_a_server_error(alice: APIClient, slide: Slide, area: Any) -> None:
    body = json.dumps({"slide": str(slide.pk), "jobs": [{**JOBS[0], "region": area}]})
    answer = alice.generic("POST", "/workflow", body, content_type="application/json")
    assert answer.status_code in (201, 400), (body, answer.content)
    assert answer.json()


@given(raw=st.binary(max_size=60) | st.text(st.characters(), max_size=60).map(lambda t: t.encode("utf-8", "surrogatepass")))
@settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
@pytest.mark.parametrize("path", ["/workflow", "/slide", "/workflow/batch"])
def test_no_bytes_give_a_server_error(alice: APIClient, path: str, raw: bytes) -> None:
    answer = alice.generic("POST", path, raw, content_type="application/json")
    assert answer.status_code == 400, (raw, answer.content)


@given(
    query=st.dictionaries(
        st.sampled_from(["cursor", "status", "branch", "job_type", "search", "format", "x"]), st.text(max_size=20), max_size=3
    )
)
@settings(max_examples=100, deadline=None, suppress_health_check=QUIET)
def test_no_query_gives_a_server_error(alice: APIClient, query: dict[str, str]) -> None:
    from urllib.parse import urlencode

    encoded = urlencode(query, errors="surrogatepass")
    for path in ("/workflow", "/slide"):
        assert alice.get(f"{path}?{encoded}").status_code in (200, 400, 404), query


headers = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=30)


@given(key=headers, accept=headers, range_=headers, token=headers)
@settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
def test_no_header_gives_a_server_error(alice: APIClient, key: str, accept: str, range_: str, token: str) -> None:
    extra = {"HTTP_IDEMPOTENCY_KEY": key, "HTTP_ACCEPT": accept, "HTTP_RANGE": range_, "HTTP_IF_NONE_MATCH": range_}
    answer = alice.post("/workflow", {"jobs": []}, **extra)
    assert answer.status_code in (400, 406), (extra, answer.content)
    unknown = APIClient(HTTP_AUTHORIZATION=token, raise_request_exception=False).get("/workflow", HTTP_ACCEPT=accept)
    assert unknown.status_code in (401, 406), (token, accept)

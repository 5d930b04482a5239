"""Results: the list, and files by ranges and conditions."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
from django.core.signals import request_finished
from django.db import close_old_connections
from rest_framework.test import APIClient

from scheduling.api.downloads import CHUNK_BYTES
from scheduling.states import JobState
from tests.integration.api.conftest import finish, publish

CONTENT = bytes(range(256)) * 2000  # several chunks
CELLS = b'{"type": "FeatureCollection", "features": []}'


def read(answer: Any) -> bytes:
    return b"".join(answer.streaming_content)


@pytest.fixture
def base(alice: APIClient, submit: Callable[..., str], settings: Any) -> str:
    """The address of a succeeded job's results."""
    workflow_id = submit()
    finish(workflow_id)
    publish(settings.DATA_DIR, workflow_id, "j1", {"results.json": CONTENT, "cells.geojson": CELLS, "empty.csv": b""})
    return f"/workflow/{workflow_id}/job/j1/results"


def test_the_list_names_sizes_types_and_addresses(alice: APIClient, base: str) -> None:
    artifacts = {artifact["name"]: artifact for artifact in alice.get(base).json()["artifacts"]}
    assert artifacts["results.json"]["size"] == len(CONTENT)
    assert artifacts["cells.geojson"]["content_type"] == "application/geo+json"
    assert artifacts["results.json"]["url"] == f"http://testserver{base}/results.json"
    assert read(alice.get(artifacts["cells.geojson"]["url"])) == CELLS


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.FAILED])
def test_there_are_none_until_the_job_has_succeeded(alice: APIClient, submit: Callable[..., str], state: JobState) -> None:
    workflow_id = submit()
    if state != JobState.PENDING:
        finish(workflow_id, state)
    assert alice.get(f"/workflow/{workflow_id}/job/j1/results").status_code == 404


def test_a_whole_file_streams_with_its_headers(alice: APIClient, base: str) -> None:
    answer = alice.get(f"{base}/results.json")
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"
    assert answer["Content-Length"] == str(len(CONTENT))
    assert answer["Content-Disposition"] == 'attachment; filename="results.json"'
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Accept-Ranges"] == "bytes"
    chunks = list(answer.streaming_content)
    assert max(len(chunk) for chunk in chunks) <= CHUNK_BYTES < len(CONTENT)
    assert b"".join(chunks) == CONTENT


SIZE = len(CONTENT)


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=1-9", 1, 10),
        ("bytes=0-0", 0, 1),
        (f"bytes={SIZE - 5}-", SIZE - 5, SIZE),
        ("bytes=-5", SIZE - 5, SIZE),
        (f"bytes=-{SIZE * 2}", 0, SIZE),
        (f"bytes=10-{SIZE * 2}", 10, SIZE),
        ("bytes = 3-4", 3, 5),
    ],
)
def test_a_range_gives_its_bytes(alice: APIClient, base: str, asked: str, start: int, stop: int) -> None:
    answer = alice.get(f"{base}/results.json", HTTP_RANGE=asked)
    assert answer.status_code == 206
    assert answer["Content-Range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert answer["Content-Length"] == str(stop - start)
    assert read(answer) == CONTENT[start:stop]


@pytest.mark.parametrize("asked", ["bytes=1-2,4-5", "bytes=9-1", "bytes=-", "lines=1-2", "bytes=a-b", "bytes=1", "bytes=" + "9" * 40 + "-"])
def test_a_range_that_is_malformed_or_several_gives_the_whole(alice: APIClient, base: str, asked: str) -> None:
    answer = alice.get(f"{base}/results.json", HTTP_RANGE=asked)
    assert answer.status_code == 200
    assert read(answer) == CONTENT


@pytest.mark.parametrize(("name", "asked"), [("results.json", f"bytes={SIZE}-"), ("results.json", "bytes=-0"), ("empty.csv", "bytes=0-1")])
def test_a_range_outside_the_file_is_refused(alice: APIClient, base: str, name: str, asked: str) -> None:
    answer = alice.get(f"{base}/{name}", HTTP_RANGE=asked)
    assert answer.status_code == 416
    assert answer["Content-Range"].startswith("bytes */")
    assert answer.json()["detail"]


def test_conditions_spare_what_is_known_already(alice: APIClient, base: str) -> None:
    whole = alice.get(f"{base}/results.json")
    etag, modified = whole["ETag"], whole["Last-Modified"]
    read(whole)
    assert not etag.startswith("W/")
    for condition in (etag, f'"x", {etag}', "*", f"W/{etag}"):
        unchanged = alice.get(f"{base}/results.json", HTTP_IF_NONE_MATCH=condition)
        assert (unchanged.status_code, unchanged["ETag"]) == (304, etag)
    assert alice.get(f"{base}/results.json", HTTP_IF_MODIFIED_SINCE=modified).status_code == 304
    assert alice.get(f"{base}/results.json", HTTP_IF_MATCH='"other"').json()["detail"]
    for condition, status in ((etag, 206), (modified, 206), ('"other"', 200), (f"W/{etag}", 200), ("nonsense", 200)):
        answer = alice.get(f"{base}/results.json", HTTP_RANGE="bytes=0-3", HTTP_IF_RANGE=condition)
        assert answer.status_code == status, condition
        read(answer)


def test_head_gives_the_headers_alone(alice: APIClient, base: str) -> None:
    answer = alice.head(f"{base}/results.json")
    assert (answer.status_code, answer["Content-Length"], answer.content) == (200, str(SIZE), b"")
    assert answer["ETag"]


@pytest.mark.parametrize(
    "name",
    [
        "nope.json",
        "..",
        ".",
        "..%2f..%2fdb.sqlite3",
        "%2e%2e%2fsecret_key",
        "..%252fsecret_key",
        "%2fetc%2fpasswd",
        "results.json%00",
        "a%0ab",
    ],
)
def test_other_names_are_missing(alice: APIClient, base: str, name: str) -> None:
    assert alice.get(f"{base}/{name}").status_code == 404


def test_a_file_that_has_gone_is_missing(alice: APIClient, base: str, settings: Any) -> None:
    for path in (settings.DATA_DIR / "results").glob("*/results.json"):
        path.unlink()
    assert alice.get(f"{base}/results.json").status_code == 404


def test_an_answer_that_nobody_reads_to_its_end_releases_its_file(alice: APIClient, base: str) -> None:
    answer = alice.get(f"{base}/results.json")
    next(iter(answer))
    # A response's end closes the connection to the database as well, which belongs to this test's transaction.
    request_finished.disconnect(close_old_connections)
    try:
        answer.close()
    finally:
        request_finished.connect(close_old_connections)
    del answer
    gc.collect()  # an open file would warn here, and warnings are errors

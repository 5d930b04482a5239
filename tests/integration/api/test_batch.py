"""A batch over HTTP: one workflow for each slide, in order, with what is wrong with a slide listed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from scheduling.models import IdempotencyKey, Job, Slide, Workflow
from scheduling.services import batches
from tests.integration.api.conftest import JOBS

TEMPLATE = {"name": "T", "jobs": [JOBS[1], {**JOBS[0], "job_id": "cells"}]}
UNKNOWN = "00000000-0000-0000-0000-000000000000"


def post(client: APIClient, key: str | None = None, template: Any = TEMPLATE, **body: Any) -> Any:
    extra = {"HTTP_IDEMPOTENCY_KEY": key} if key else {}
    return client.post("/workflow/batch", {"template": template, **body}, **extra)


@pytest.fixture
def folder(slide_bytes: bytes, settings: Any) -> Iterator[Path]:
    """Two slides, a broken one, a text, and one deeper."""
    made: Path = settings.DATA_DIR / "slides" / "study"
    (made / "deep").mkdir(parents=True)
    for name in ("b.tif", "a.tif", "deep/c.tif", ".hidden.tif"):
        (made / name).write_bytes(slide_bytes + name.encode())
    (made / "broken.tif").write_bytes(b"II*\0")
    (made / "notes.txt").write_text("x")
    yield made
    shutil.rmtree(made)


@pytest.fixture
def slides(alice: APIClient, folder: Path) -> list[str]:
    """Two of Alice's."""
    return [alice.post("/slide", {"path": f"study/{name}"}).json()["slide_id"] for name in ("b.tif", "a.tif")]


def test_every_slide_gets_its_workflow_in_the_order_given(alice: APIClient, slides: list[str]) -> None:
    answer = post(alice, slides=slides, name="{n}: {slide}")
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert body["errors"] == []
    assert [(row["slide_id"], row["name"]) for row in body["workflows"]] == list(zip(slides, ("1: b.tif", "2: a.tif"), strict=True))
    stored = Workflow.objects.order_by("id")
    assert [str(workflow.uuid) for workflow in stored] == [row["workflow_id"] for row in body["workflows"]]
    assert [str(workflow.slide_id) for workflow in stored] == slides
    for row in body["workflows"]:
        jobs = alice.get(f"/workflow/{row['workflow_id']}").json()["jobs"]
        assert [(job["job_id"], job["slide"]) for job in jobs] == [("j2", row["slide_id"]), ("cells", row["slide_id"])]


@pytest.mark.parametrize(
    ("template", "given", "names"), [("T", "", ["T", "T"]), ("", "", ["b.tif", "a.tif"]), ("T", "{n}{n}", ["11", "22"])]
)
def test_names_follow_from_pattern_template_or_slide(
    alice: APIClient, slides: list[str], template: str, given: str, names: list[str]
) -> None:
    answer = post(alice, template={**TEMPLATE, "name": template}, slides=slides, name=given)
    assert [row["name"] for row in answer.json()["workflows"]] == names


def test_a_slides_name_is_never_taken_for_a_pattern(alice: APIClient, slides: list[str]) -> None:
    Slide.objects.filter(pk=slides[0]).update(name="{n}{slide}" * 25)
    (row,) = post(alice, slides=slides[:1], name="{slide}").json()["workflows"]
    assert row["name"] == ("{n}{slide}" * 25)[:200]


def test_what_is_wrong_with_one_slide_stops_no_other(alice: APIClient, slides: list[str]) -> None:
    Slide.objects.filter(pk=slides[0]).update(mpp=None)
    answer = post(alice, slides=[UNKNOWN, slides[0], slides[1]])
    assert answer.status_code == 201
    errors = answer.json()["errors"]
    assert [(error["slide"], error["field"]) for error in errors] == [(UNKNOWN, "slide"), (slides[0], "jobs[0].slide")]
    assert "states no microns per pixel" in errors[1]["detail"]
    assert [row["slide_id"] for row in answer.json()["workflows"]] == slides[1:]
    far = {**TEMPLATE, "region": {"x": 5000, "y": 0, "width": 9, "height": 9}}
    refused = post(alice, template=far, slides=slides[1:])
    assert refused.status_code == 400
    assert refused.json()["detail"] == "No workflow could be made."
    assert [error["field"] for error in refused.json()["errors"]] == ["region"]
    assert Workflow.objects.count() == 1


@pytest.mark.parametrize(
    ("template", "where"),
    [
        ({"jobs": []}, ["jobs"]),
        ({"jobs": [JOBS[0], JOBS[0]]}, ["jobs", 1, "job_id"]),
        ({"jobs": [{**JOBS[0], "job_type": "NOPE"}]}, ["jobs", 0, "job_type"]),
        ({"jobs": [{**JOBS[0], "parameters": {"tiles": 3}}]}, ["jobs", 0, "parameters"]),
        ({"jobs": [{**JOBS[0], "depends_on": ["x"]}]}, ["jobs", 0, "depends_on"]),
        ({"jobs": [{**JOBS[0], "region": {"x": 1}}]}, ["jobs", 0, "region"]),
        ({"jobs": [{**JOBS[1], "annotation": UNKNOWN}]}, ["jobs", 0, "annotation"]),
        ({"jobs": JOBS, "region": {}}, ["region"]),
        ({"jobs": JOBS, "slide": UNKNOWN}, ["slide"]),
        ({"jobs": [{**JOBS[0], "slide": UNKNOWN}]}, ["jobs", 0, "slide"]),
        ({"jobs": JOBS, "nope": 1}, ["nope"]),
    ],
)
def test_a_bad_template_is_refused_where_a_workflow_would_be(alice: APIClient, slides: list[str], template: Any, where: list[Any]) -> None:
    answer = post(alice, template=template, slides=slides)
    assert answer.status_code == 400
    found = answer.json()["template"]
    for step in where:
        found = found[step]
    assert found, answer.json()
    assert not Workflow.objects.exists()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "slides"),
        ({"slides": []}, "slides"),
        ({"slides": [UNKNOWN], "folder": ""}, "slides"),
        ({"slides": [UNKNOWN, UNKNOWN]}, "slides"),
        ({"slides": ["x"]}, "slides"),
        ({"slides": [UNKNOWN] * 1001}, "slides"),
        ({"slides": [UNKNOWN], "pattern": "*"}, "pattern"),
        ({"folder": "study", "root": "share"}, "root"),
        ({"folder": "study", "pattern": "*.nope"}, "folder"),
        ({"folder": "../slides"}, "folder"),
        ({"folder": "/etc"}, "folder"),
        ({"folder": "study/"}, "folder"),
        ({"folder": "study/a.tif"}, "folder"),
        ({"folder": "nowhere"}, "folder"),
        ({"folder": "a\u0000b"}, "folder"),
        ({"folder": 7}, "folder"),
        ({"slides": [UNKNOWN], "nope": 1}, "nope"),
    ],
)
def test_a_batch_that_names_no_slides_is_refused_by_field(alice: APIClient, folder: Path, body: Any, field: str) -> None:
    answer = post(alice, **body)
    assert answer.status_code == 400, answer.content
    assert field in answer.json()


def test_a_folder_is_registered_where_it_is_not_and_used_where_it_is(alice: APIClient, bob: APIClient, slides: list[str]) -> None:
    answer = post(alice, folder="study", recursive=True, name="{n} {slide}")
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert [row["name"] for row in body["workflows"]] == ["1 a.tif", "2 b.tif", "4 c.tif"]
    assert [(error["path"], error["field"]) for error in body["errors"]] == [("study/broken.tif", "path")]
    assert [row["slide_id"] for row in body["workflows"]][:2] == slides[::-1]
    assert Slide.objects.count() == 3
    theirs = post(bob, folder="study", pattern="A*").json()
    assert len(theirs["workflows"]) == 1
    assert theirs["workflows"][0]["slide_id"] not in slides


def test_a_file_that_has_changed_is_another_slide(alice: APIClient, slides: list[str], folder: Path, slide_bytes: bytes) -> None:
    (folder / "a.tif").write_bytes(slide_bytes + b"changed")
    (row,) = post(alice, folder="study", pattern="a.tif").json()["workflows"]
    assert row["slide_id"] not in slides


def test_a_link_that_leads_out_is_an_error_of_its_own(alice: APIClient, folder: Path, slide_bytes: bytes, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.tif").write_bytes(slide_bytes)
    (folder / "link.tif").symlink_to(tmp_path / "elsewhere.tif")
    (folder / "way-out").symlink_to(tmp_path)
    body = post(alice, folder="study", pattern="*.tif", recursive=True).json()
    assert [error["path"] for error in body["errors"]] == ["study/broken.tif", "study/link.tif"]
    assert post(alice, folder="study/way-out").status_code == 400


def test_another_users_slide_does_not_exist(bob: APIClient, staff: APIClient, slides: list[str]) -> None:
    theirs, missing = (post(bob, slides=[key]) for key in (slides[0], UNKNOWN))
    assert theirs.status_code == missing.status_code == 400
    assert theirs.content.replace(slides[0].encode(), UNKNOWN.encode()) == missing.content
    assert post(staff, slides=slides[:1]).status_code == 201


def test_a_key_gives_the_whole_answer_again(alice: APIClient, slides: list[str], set_env: Callable[..., None]) -> None:
    set_env(rate_limit_capacity=2, rate_limit_refill_per_second=0.001)
    first = post(alice, "k", slides=[*slides, UNKNOWN])
    assert first.status_code == 201
    Workflow.objects.all().delete()
    assert [post(alice, "k", slides=[*slides, UNKNOWN]).json() for _ in range(3)] == [first.json()] * 3
    assert post(alice, "k", slides=slides).status_code == 422
    assert alice.post("/workflow", {"jobs": JOBS}, HTTP_IDEMPOTENCY_KEY="k").status_code == 422
    assert post(alice, "other", slides=slides).status_code == 201
    assert post(alice, "third", slides=slides).status_code == 429


def test_a_repetition_after_a_crash_makes_what_is_missing_and_nothing_twice(
    alice: APIClient, slides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, calls = batches.workflow_submit, []

    def crashing(**given: Any) -> Workflow:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return submit(**given)

    monkeypatch.setattr(batches, "workflow_submit", crashing)
    with pytest.raises(KeyboardInterrupt):
        post(alice, "k", slides=slides)
    assert Workflow.objects.count() == 1
    assert post(alice, "k", slides=slides[::-1]).status_code == 422
    body = post(alice, "k", slides=slides).json()
    assert len(body["workflows"]) == Workflow.objects.count() == 2
    assert [str(workflow.slide_id) for workflow in Workflow.objects.order_by("id")] == slides


def test_what_made_nothing_uses_up_no_key(alice: APIClient, slides: list[str]) -> None:
    assert post(alice, "k", slides=[UNKNOWN]).status_code == 400
    assert not IdempotencyKey.objects.exists()
    assert post(alice, "k", slides=slides).status_code == 201


def test_a_batch_is_bounded(alice: APIClient, slides: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [{**JOBS[1], "job_id": f"j{i}"} for i in range(11)]
    answer = post(alice, template={"jobs": jobs}, slides=[UNKNOWN[:-4] + f"{i:04d}" for i in range(1000)])
    assert "1,000 slides with 11 jobs each are more than 10,000 jobs" in answer.json()["template"]["jobs"][0]
    monkeypatch.setattr(batches, "MAX_SLIDES", 2)
    assert "3 files match; a batch takes at most 2" in post(alice, folder="study").json()["folder"][0]
    assert not Job.objects.exists()

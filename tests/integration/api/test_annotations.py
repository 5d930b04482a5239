"""Annotations over HTTP: kept as sent, measured, given to jobs, deleted; and what an outsider sees."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from rest_framework.test import APIClient

from scheduling.api.parsing import MAX_GEOJSON_BYTES
from scheduling.models import Annotation, Event, Job, Slide
from scheduling.states import JobState
from tests.integration.api.conftest import JOBS, finish

UNKNOWN = "00000000-0000-0000-0000-000000000000"
CELLS = JOBS[0]


def box(x: float, y: float, side: float) -> list[list[float]]:
    """A closed square."""
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


def feature(ring: list[list[float]], name: str | None = None) -> dict[str, Any]:
    """As QuPath writes it."""
    given = {"classification": {"name": name, "color": [0, 150, 0]}} if name else {}
    properties = {"objectType": "annotation", "isLocked": True, **given}
    return {"type": "Feature", "id": UNKNOWN, "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": properties}


def collection(*features: dict[str, Any]) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features)}


TISSUE = collection(feature(box(100, 100, 200), "Tissue"), feature(box(150, 150, 20), "Ignore*"))


def add(client: APIClient, slide: Slide, body: Any = TISSUE, kind: str = "application/geo+json", name: str = "") -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.generic("POST", f"/slide/{slide.pk}/annotation{name and f'?name={name}'}", raw, content_type=kind)


def files(data_dir: Path) -> list[Path]:
    return sorted((data_dir / "annotations").glob("*"))


@pytest.fixture(autouse=True)
def _no_leftovers(settings: Any) -> None:
    for path in files(settings.DATA_DIR):
        path.unlink()


def test_an_annotation_is_kept_as_it_was_sent_and_measured(alice: APIClient, slide: Slide, settings: Any) -> None:
    answer = add(alice, slide, name="By hand")
    assert answer.status_code == 201, answer.content
    body, raw = answer.json(), json.dumps(TISSUE).encode()
    assert (body["name"], body["features"], body["slide_id"]) == ("By hand", 2, str(slide.pk))
    assert (body["classes"], body["area_px"]) == ({"Tissue": 1, "Ignore*": 1}, 200**2 - 20**2)
    assert body["area_mm2"] == pytest.approx((200**2 - 20**2) * 0.25 / 1e6)
    assert (body["sha256"], body["size_bytes"], body["warnings"]) == (hashlib.sha256(raw).hexdigest(), len(raw), [])
    here = f"/slide/{slide.pk}/annotation/{body['annotation_id']}"
    assert answer["Location"].endswith(here)
    assert alice.get(here).json() == body
    assert alice.get(f"/slide/{slide.pk}/annotation").json()["results"] == [body]
    file = alice.get(f"{here}/geojson")
    assert b"".join(file.streaming_content) == raw
    assert (file["Content-Type"], file["ETag"]) == ("application/geo+json", f'"{body["sha256"]}"')
    part = alice.get(f"{here}/geojson", HTTP_RANGE="bytes=0-5")
    assert (part.status_code, b"".join(part.streaming_content)) == (206, raw[:6])
    file.close()
    part.close()
    assert [path.name for path in files(settings.DATA_DIR)] == [f"{body['annotation_id']}.geojson"]


@pytest.mark.parametrize(
    ("body", "features"),
    [(TISSUE, 2), (TISSUE["features"], 2), (TISSUE["features"][0], 1), (TISSUE["features"][0]["geometry"], 1)],
)
@pytest.mark.parametrize("kind", ["application/geo+json", "application/json"])
def test_every_shape_of_geojson_is_taken(alice: APIClient, slide: Slide, body: Any, features: int, kind: str) -> None:
    answer = add(alice, slide, body, kind)
    assert answer.status_code == 201, answer.content
    assert answer.json()["features"] == features
    assert answer.json()["name"] == "Annotation"


@pytest.mark.parametrize("kind", ["application/gzip", "application/geo+json"])
def test_a_gzipped_file_is_taken_and_kept_plain(alice: APIClient, slide: Slide, kind: str, settings: Any) -> None:
    raw = json.dumps(TISSUE).encode()
    answer = add(alice, slide, gzip.compress(raw[:50]) + gzip.compress(raw[50:]), kind)
    assert answer.status_code == 201, answer.content
    assert files(settings.DATA_DIR)[0].read_bytes() == raw
    assert add(alice, slide, gzip.compress(raw)[:-9], kind).status_code == 400
    assert add(alice, slide, gzip.compress(bytes(MAX_GEOJSON_BYTES + 1)), kind).status_code == 413


def test_a_file_of_a_form_is_taken_under_its_name(alice: APIClient, slide: Slide, settings: Any) -> None:
    raw, path = json.dumps(TISSUE).encode(), f"/slide/{slide.pk}/annotation"
    for name, content in (("liver.geojson", raw), ("liver.geojson.gz", gzip.compress(raw))):
        answer = alice.post(path, {"file": SimpleUploadedFile(name, content)}, format="multipart")
        assert answer.status_code == 201, answer.content
        assert (answer.json()["name"], answer.json()["sha256"]) == (name, hashlib.sha256(raw).hexdigest())
    for form in ({}, {"file": "text"}, {"other": SimpleUploadedFile("a", raw)}, {"file": SimpleUploadedFile("a", raw), "nope": "1"}):
        refused = alice.post(path, form, format="multipart")
        assert refused.status_code == 400
        assert set(refused.json()) <= {"file", "other", "nope"}, refused.json()
    large = SimpleUploadedFile("a.geojson", raw.ljust(MAX_GEOJSON_BYTES + 1))
    assert alice.post(path, {"file": large}, format="multipart").status_code == 413
    assert len(files(settings.DATA_DIR)) == 2


def test_what_is_partly_outside_is_cut_off_with_a_warning(alice: APIClient, slide: Slide) -> None:
    body = add(alice, slide, feature(box(600, 400, 200))).json()
    assert (body["area_px"], body["warnings"]) == (100 * 100, ["Part of it lies outside the slide and was cut off."])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (feature(box(700, 0, 50)), "outside the slide, which is 700 by 500"),
        (feature([[0, 0], [9, 9], [9, 0], [0, 9], [0, 0]]), "Self-intersection"),
        (collection(), "no area"),
        (collection(feature(box(0, 0, 5), "Exclude")), "no area"),
        ({"type": "Point", "coordinates": [1, 2]}, "no FeatureCollection"),
        ([1], "Feature 1 is no object"),
        ("text", "list|no"),
        (b"{", "no valid JSON"),
        (b"[" * 1_000_001, "vertices"),
        (b'{"type": "Polygon", "coordinates": [[[NaN, 1]]]}', "no valid JSON"),
    ],
)
def test_what_is_no_area_on_the_slide_is_refused_with_the_reason_and_leaves_nothing(
    alice: APIClient, slide: Slide, body: Any, words: str, settings: Any
) -> None:
    answer = add(alice, slide, body)
    assert answer.status_code == 400
    assert any(word in answer.json()["detail"] for word in words.split("|")), answer.json()
    assert not Annotation.objects.exists()
    assert files(settings.DATA_DIR) == []


def test_sixteen_megabytes_are_the_limit(alice: APIClient, slide: Slide) -> None:
    padded = json.dumps(TISSUE).encode().ljust(MAX_GEOJSON_BYTES)
    assert add(alice, slide, padded).status_code == 201
    assert add(alice, slide, padded + b" ").status_code == 413
    assert add(alice, slide, TISSUE, kind="text/plain").status_code == 415
    assert add(alice, slide, TISSUE, name="x" * 256).status_code == 400


def test_another_users_annotations_do_not_exist(alice: APIClient, bob: APIClient, staff: APIClient, slide: Slide) -> None:
    key = add(alice, slide).json()["annotation_id"]
    assert add(bob, slide).status_code == 404
    for method, path in [("get", ""), ("get", f"/{key}"), ("get", f"/{key}/geojson"), ("delete", f"/{key}")]:
        theirs = getattr(bob, method)(f"/slide/{slide.pk}/annotation{path}")
        missing = getattr(bob, method)(f"/slide/{UNKNOWN}/annotation{path}")
        assert theirs.status_code == missing.status_code == 404, (method, path)
        assert theirs.json() == missing.json()
    refused = bob.post("/workflow", {"slide": str(slide.pk), "jobs": [{**CELLS, "annotation": key}]})
    assert list(refused.json()) == ["slide"]
    for unknown in (UNKNOWN, "x", f"{key}x"):
        assert alice.get(f"/slide/{slide.pk}/annotation/{unknown}").status_code == 404
    assert staff.get(f"/slide/{slide.pk}/annotation/{key}").status_code == 200
    assert alice.get(f"/slide/{slide.pk}/annotation/{key}").status_code == 200


def test_a_job_names_an_annotation_of_its_slide(alice: APIClient, bob: APIClient, slide: Slide, slide_bytes: bytes) -> None:
    key = add(alice, slide).json()["annotation_id"]
    made = alice.post("/workflow", {"slide": str(slide.pk), "jobs": [{**CELLS, "annotation": key}]})
    assert made.status_code == 201, made.content
    assert alice.get(f"/workflow/{made.json()['workflow_id']}").json()["jobs"][0]["annotation"] == key
    other = bob.post("/slide", {"path": "shelf/one.tif"}).json()["slide_id"]
    for client, jobs, slide_id, words in [
        (alice, [{**CELLS, "annotation": UNKNOWN}], str(slide.pk), "There is no annotation"),
        (bob, [{**CELLS, "annotation": key}], other, "There is no annotation"),
        (alice, [{**CELLS, "annotation": key}], None, "simulated"),
        (alice, [{**JOBS[1], "annotation": key}], str(slide.pk), "TISSUE_MASK takes no annotation: it finds the tissue itself"),
    ]:
        answer = client.post("/workflow", {"slide": slide_id, "jobs": jobs})
        assert answer.status_code == 400, words
        assert words in answer.json()["jobs"][0]["annotation"][0]


def test_an_annotation_in_use_stays_and_one_that_was_used_is_hidden(alice: APIClient, slide: Slide, settings: Any) -> None:
    key = add(alice, slide).json()["annotation_id"]
    here = f"/slide/{slide.pk}/annotation/{key}"
    made = alice.post("/workflow", {"slide": str(slide.pk), "jobs": [{**CELLS, "annotation": key}]}).json()["workflow_id"]
    refused = alice.delete(here)
    assert (refused.status_code, refused.json()) == (409, {"detail": "An unfinished job uses this annotation."})
    finish(made, JobState.FAILED)
    assert alice.delete(here).status_code == 204
    assert alice.delete(here).status_code == alice.get(here).status_code == 404
    assert files(settings.DATA_DIR) == []
    assert Job.objects.get().annotation is not None
    again = alice.post(f"/workflow/{made}/retry")
    assert (again.status_code, again.json()) == (409, {"detail": "The annotation of job j1 was deleted."})
    refused = alice.post("/workflow", {"slide": str(slide.pk), "jobs": [{**CELLS, "annotation": key}]})
    assert refused.status_code == 400
    assert alice.delete(f"/workflow/{made}").status_code == 204
    second = add(alice, slide).json()["annotation_id"]
    assert alice.delete(f"/slide/{slide.pk}/annotation/{second}").status_code == 204
    assert not Annotation.objects.exists()
    told = Event.objects.filter(type__startswith="annotation.").order_by("id").values_list("type", "actor")
    assert list(told) == [("annotation.added", "alice"), ("annotation.deleted", "alice")] * 2


def test_a_browser_gets_pages(staff: APIClient, alice: APIClient, slide: Slide) -> None:
    key = add(alice, slide).json()["annotation_id"]
    for path in (f"/slide/{slide.pk}/annotation", f"/slide/{slide.pk}/annotation/{key}"):
        page = staff.get(path, HTTP_ACCEPT="text/html")
        assert (page.status_code, key.encode() in page.content) == (200, True), path
    assert staff.get("/workflow/batch", HTTP_ACCEPT="text/html").status_code == 405


def test_an_annotation_goes_with_its_slide(alice: APIClient, slide: Slide) -> None:
    key = add(alice, slide).json()["annotation_id"]
    assert alice.delete(f"/slide/{slide.pk}").status_code == 204
    assert alice.get(f"/slide/{slide.pk}/annotation/{key}").status_code == 404
    assert add(alice, slide).status_code == 404
    assert not Annotation.objects.exists()


def test_annotations_are_listed_newest_first_page_by_page(alice: APIClient, slide: Slide) -> None:
    made = [add(alice, slide, name=str(number)).json()["annotation_id"] for number in range(51)]
    first = alice.get(f"/slide/{slide.pk}/annotation").json()
    second = alice.get(first["next"]).json()
    assert [row["annotation_id"] for row in first["results"] + second["results"]] == made[::-1]
    assert len(first["results"]) == 50
    assert alice.get(f"/slide/{slide.pk}/annotation?cursor=cD1hYmM%3D").status_code == 400

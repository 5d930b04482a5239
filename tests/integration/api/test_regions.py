"""Regions over HTTP: one form however they are written, refused with field and reason."""

from __future__ import annotations

import math
from typing import Any

import pytest
from rest_framework.test import APIClient

from scheduling.models import Job, Slide, Workflow
from scheduling.slides.areas.annotation import MAX_REGION_VERTICES
from tests.integration.api.conftest import JOBS

CELLS, TISSUE = JOBS
RECTANGLE = {"x": 10, "y": 20, "width": 300, "height": 200}
RING = [[10, 20], [310, 20], [310, 220], [10, 220], [10, 20]]
QUPATH = {
    "type": "FeatureCollection",
    "features": [{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [RING]}, "properties": {"objectType": "annotation"}}],
}


def jobs_of(client: APIClient, answer: Any) -> list[dict[str, Any]]:
    assert answer.status_code == 201, answer.content
    return client.get(f"/workflow/{answer.json()['workflow_id']}").json()["jobs"]  # type: ignore[no-any-return]


def test_a_region_is_shown_in_one_form_however_it_was_given(alice: APIClient, slide: Slide) -> None:
    jobs = [{**CELLS, "job_id": f"j{i}", "region": given} for i, given in enumerate((RECTANGLE, QUPATH, QUPATH["features"]))]
    shown = [job["region"] for job in jobs_of(alice, alice.post("/workflow", {"slide": str(slide.pk), "jobs": jobs}))]
    assert shown[0] == shown[1] == shown[2]
    assert (shown[0]["type"], len(shown[0]["coordinates"][0])) == ("Polygon", 5)


def test_a_workflows_region_is_that_of_every_job_that_names_none(alice: APIClient, slide: Slide) -> None:
    own = {"x": 0, "y": 0, "width": 50, "height": 50}
    body = {
        "slide": str(slide.pk),
        "region": RECTANGLE,
        "jobs": [TISSUE, {**CELLS, "region": own}, {**CELLS, "job_id": "j3", "region": None}],
    }
    shown = jobs_of(alice, alice.post("/workflow", body))
    assert shown[0]["region"] == shown[2]["region"] != shown[1]["region"]
    assert jobs_of(alice, alice.post("/workflow", {"slide": str(slide.pk), "jobs": [TISSUE]}))[0]["region"] is None


def test_the_part_outside_the_slide_is_cut_off(alice: APIClient, slide: Slide) -> None:
    wide = {"x": 600, "y": -100, "width": 10_000, "height": 200}
    (job,) = jobs_of(alice, alice.post("/workflow", {"slide": str(slide.pk), "jobs": [{**CELLS, "region": wide}]}))
    xs, ys = zip(*job["region"]["coordinates"][0], strict=True)
    assert (min(xs), max(xs), min(ys), max(ys)) == (600, 700, 0, 100)


CIRCLE = [[300 + 99 * math.cos(t / 1000), 250 + 99 * math.sin(t / 1000)] for t in range(6283)]


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ({"x": 700, "y": 0, "width": 9, "height": 9}, "It lies outside the slide, which is 700 by 500 pixels."),
        ({"x": 0, "y": 0, "width": 0, "height": 9}, "more than 0"),
        ({"x": 0, "y": 0, "width": 9}, "Must be a rectangle"),
        ({}, "Must be a rectangle"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [9, 9], [9, 0], [0, 9], [0, 0]]]}, "Self-intersection"),
        ({"type": "Polygon", "coordinates": [CIRCLE]}, f"more than {MAX_REGION_VERTICES:,} vertices"),
        ({"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 1]}}]}, "no area"),
        ("10,20,300,200", "Must be a rectangle or GeoJSON."),
        (7, "Must be a rectangle or GeoJSON."),
    ],
)
def test_what_is_no_region_is_refused_with_field_and_reason(alice: APIClient, slide: Slide, region: Any, words: str) -> None:
    for body, at in (
        ({"jobs": [TISSUE, {**CELLS, "region": region}]}, lambda found: found["jobs"][1]["region"][0]),
        ({"jobs": [CELLS], "region": region}, lambda found: found["region"][0]),
    ):
        answer = alice.post("/workflow", {"slide": str(slide.pk), **body})
        assert answer.status_code == 400
        assert words in at(answer.json()), answer.json()
    assert not Workflow.objects.exists()


def test_a_simulated_job_has_no_region(alice: APIClient, slide: Slide) -> None:
    answer = alice.post("/workflow", {"jobs": [{**CELLS, "region": RECTANGLE}]})
    assert answer.json() == {"jobs": [{"region": ["Job j1 is simulated: without a slide there is no region."]}]}
    mixed = alice.post("/workflow", {"region": RECTANGLE, "jobs": [{**CELLS, "slide": str(slide.pk)}, TISSUE]})
    assert mixed.json() == {"region": ["Job j2 is simulated: without a slide there is no region."]}


def test_a_type_that_would_ignore_a_region_is_not_given_one(alice: APIClient, slide: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    from scheduling.jobtypes.segment_cells import SegmentCells

    monkeypatch.setattr(SegmentCells, "limits", ())
    answer = alice.post("/workflow", {"slide": str(slide.pk), "region": RECTANGLE, "jobs": [CELLS]})
    assert answer.json() == {"region": ["SEGMENT_CELLS takes no region: it would not keep to it."]}


def test_the_regions_of_a_workflow_are_bounded_together(alice: APIClient, slide: Slide) -> None:
    ring = {"type": "Polygon", "coordinates": [CIRCLE[::2]]}
    jobs = [{**CELLS, "job_id": f"j{i}"} for i in range(20)]
    answer = alice.post("/workflow", {"slide": str(slide.pk), "region": ring, "jobs": jobs})
    assert "together have more than 50,000 vertices" in answer.json()["region"][0]
    assert not Job.objects.exists()

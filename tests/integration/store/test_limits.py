"""Limited jobs through the whole engine: what travels to the worker, what makes work another, what replaces the mask."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from scheduling.models import Annotation, Job, Slide, User, Workflow
from scheduling.services.annotations import annotation_add
from scheduling.services.workflows import JobRequest
from scheduling.slides.reading.reader import fingerprint
from scheduling.slides.synthetic.slide import write_sample
from scheduling.store.inputs import inputs_of
from scheduling.store.specs import spec_of
from tests.integration.store.house import House
from tests.integration.working import job_of, new_slide, new_user, states, submit

pytestmark = pytest.mark.django_db(transaction=True)
RECTANGLE = {"x": 200, "y": 200, "width": 900, "height": 700}
DRAWN = {"type": "Polygon", "coordinates": [[[200, 200], [1100, 200], [1100, 900], [200, 900], [200, 200]]]}


@pytest.fixture
def alice() -> User:
    """The owner."""
    return new_user("alice")


@pytest.fixture
def slide(alice: User, house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Slide:
    """A slide with tissue and nuclei, where the services look."""
    monkeypatch.setattr(settings, "DATA_DIR", house.data_dir)
    (house.data_dir / "slides").mkdir(exist_ok=True)
    path = house.data_dir / "slides" / "sample.tif"
    write_sample(tmp_path / "sample.tif", width=1600, height=1200, seed=3)
    os.link(tmp_path / "sample.tif", path)
    return new_slide(alice, path.name, fingerprint=fingerprint(path), width=1600, height=1200)


def annotated(slide: Slide, geometry: Any = DRAWN) -> Annotation:
    """An annotation of the slide."""
    return annotation_add(slide=slide, name="A", raw=json.dumps(geometry).encode(), data=geometry, actor="alice")


def cells(slide: Slide, **fields: Any) -> JobRequest:
    """A real segmentation."""
    return JobRequest(**{"job_id": "j1", "branch": "b1", "job_type": "SEGMENT_CELLS", "slide": slide.pk, **fields})


def summary(house: House, job: Job) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((house.data_dir / "results" / str(job.uuid) / "summary.json").read_bytes())
    return found


def digest(workflow: Workflow, job_id: str = "j1") -> str:
    """Of the job's work, as its next claim would name it."""
    job = Job.objects.select_related("owner", "slide", "annotation").get(workflow=workflow, job_id=job_id)
    return spec_of(job, []).digest


def test_a_region_and_an_annotation_reach_the_worker_and_the_results(house: House, alice: User, slide: Slide) -> None:
    drawn = annotated(slide)
    flow = submit(alice, cells(slide, region=RECTANGLE), cells(slide, job_id="j2", branch="b2", annotation=drawn.pk))
    house.finish()
    assert states(flow) == {"j1": "SUCCEEDED", "j2": "SUCCEEDED"}, [job_of(flow, name).error for name in ("j1", "j2")]
    by_region, by_hand = summary(house, job_of(flow)), summary(house, job_of(flow, "j2"))
    assert by_region["region"] == job_of(flow).region
    assert by_hand["annotation"] == hashlib.sha256(json.dumps(DRAWN).encode()).hexdigest()
    assert by_region["cells"] > 0
    assert by_hand["cells"] > 0
    assert by_hand["tissue_area_mm2"] == pytest.approx(900 * 700 * (0.5 / 1000) ** 2)


def test_the_same_area_is_the_same_work_and_another_is_not(alice: User, slide: Slide) -> None:
    ring = DRAWN["coordinates"][0]
    again = {"type": "Polygon", "coordinates": [[*ring[2:-1], *ring[:3]]]}
    jobs = [{}, {"region": RECTANGLE}, {"region": DRAWN}, {"region": again}, {"region": {**RECTANGLE, "x": 201}}]
    plain, *limited, other = [digest(submit(alice, cells(slide, **job))) for job in jobs]
    assert len(set(limited)) == 1
    assert len({plain, limited[0], other}) == 3
    one, same, more = (annotated(slide, shape).pk for shape in (DRAWN, DRAWN, [DRAWN]))
    drawn = [digest(submit(alice, cells(slide, annotation=key))) for key in (one, same, more)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert not set(drawn) & {plain, limited[0]}


def test_an_annotation_replaces_the_mask_before_the_job(alice: User, slide: Slide) -> None:
    mask = JobRequest(job_id="mask", branch="b1", job_type="TISSUE_MASK", slide=slide.pk)
    flow = submit(alice, mask, cells(slide), cells(slide, job_id="j2", annotation=annotated(slide).pk))
    jobs = [job_of(flow), job_of(flow, "j2")]
    found = inputs_of(jobs, {job.pk: [] for job in jobs})
    assert [[job.job_id for job in found[job.pk]] for job in jobs] == [["mask"], []]


def test_an_annotation_that_is_gone_from_the_disk_fails_the_job_with_the_reason(house: House, alice: User, slide: Slide) -> None:
    drawn = annotated(slide)
    flow = submit(alice, cells(slide, annotation=drawn.pk))
    (house.data_dir / drawn.path).unlink()
    house.finish()
    assert (states(flow), job_of(flow).error) == ({"j1": "FAILED"}, "The annotation of this job is gone.")

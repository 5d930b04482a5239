"""Installed models: who sees them, which of them a job gets and keeps, and what is refused; what a job may require."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from scheduling.instanseg.facts import ModelFacts
from scheduling.instanseg.store import ModelStore
from scheduling.models import Job, Slide
from scheduling.states import JobState
from scheduling.store.specs import spec_of
from tests.integration.api.conftest import finish
from tests.integration.api.test_conformance import check
from tests.support.models import facts_of

Install = Callable[..., ModelFacts]
JOB = {"job_id": "j", "branch": "b", "job_type": "INSTANSEG_WSI"}


@pytest.fixture
def data_dir(tmp_path: Path, settings: Any) -> Iterator[Path]:
    """Where the services look for models in this test."""
    settings.DATA_DIR = tmp_path
    yield tmp_path


@pytest.fixture
def install(data_dir: Path) -> Install:
    """Puts a model of these bytes there, without a probe."""

    def add(name: str, content: bytes = b"model", installed_at: str = "2026-01-01T00:00:00.000000Z", **more: object) -> ModelFacts:
        facts = replace(facts_of("nuclei", file=content, name=name, **more), installed_at=installed_at)
        file = data_dir / "given.pt"
        file.write_bytes(content)
        ModelStore(data_dir).add(file, facts)
        return facts

    return add


def stored(workflow_id: str) -> dict[str, Any]:
    return Job.objects.get(workflow__uuid=workflow_id).parameters


def refusal(client: APIClient, slide: Slide | None, **changes: Any) -> dict[str, Any]:
    """What is said of the job."""
    answer = client.post("/workflow", {"jobs": [{**JOB, **changes}], **({"slide": str(slide.pk)} if slide else {})})
    assert answer.status_code == 400, answer.content
    assert not Job.objects.exists()
    return dict(answer.json()["jobs"][0])


# -- GET /model


def test_the_list_is_for_those_who_are_signed_in_and_is_what_the_schema_says(alice: APIClient, install: Install) -> None:
    assert Client().get("/model").status_code == 401
    assert alice.get("/model").json() == []
    install("b", b"1", "2026-01-01T00:00:00.000000Z")
    new = install("b", b"2", "2026-01-02T00:00:00.000000Z")
    install("a", b"3")
    answer = alice.get("/model")
    check(answer, "/model")
    assert [model["name"] for model in answer.json()] == ["a", "b", "b"]
    assert answer.json()[1]["sha256"] == new.sha256
    assert answer.json()[1]["outputs"] == ["nuclei"]


# -- the model of a job


def test_a_job_gets_the_only_model_and_keeps_it_when_another_takes_its_name(
    alice: APIClient, slide: Slide, submit: Callable[..., str], install: Install
) -> None:
    first = install("he", b"1", "2026-01-01T00:00:00.000000Z")
    old = submit([JOB], slide=str(slide.pk))
    second = install("he", b"2", "2026-01-02T00:00:00.000000Z")
    new = submit([JOB], slide=str(slide.pk))
    assert stored(old) == {"model": "he", "model_sha256": first.sha256}
    assert stored(new) == {"model": "he", "model_sha256": second.sha256}
    digests = {spec_of(Job.objects.get(workflow__uuid=key), []).digest for key in (old, new)}
    assert len(digests) == 2
    finish(old, JobState.FAILED)
    assert alice.post(f"/workflow/{old}/retry").status_code == 202
    assert stored(old)["model_sha256"] == first.sha256


def test_name_and_hash_mean_the_same_work(slide: Slide, submit: Callable[..., str], install: Install) -> None:
    facts = install("he")
    ways: list[dict[str, Any]] = [
        {},
        {"model": None},
        {"model": "he"},
        {"model": facts.sha256},
        {"model_sha256": facts.sha256},
        {"model": "he", "model_sha256": facts.sha256},
    ]
    made = [submit([{**JOB, "parameters": parameters}], slide=str(slide.pk)) for parameters in ways]
    assert all(stored(key) == {"model": "he", "model_sha256": facts.sha256} for key in made)
    assert len({spec_of(job, []).digest for job in Job.objects.all()}) == 1


def test_a_model_that_is_not_installed_is_refused_with_those_that_are(alice: APIClient, slide: Slide, install: Install) -> None:
    unknown = refusal(alice, slide, parameters={"model": "he"})
    assert unknown == {"parameters": {"model": ["There is no model he here; none is installed."]}}
    facts = install("he", b"1")
    install("ihc", b"2")
    assert refusal(alice, slide, parameters={"model": "h"}) == {"parameters": {"model": ["There is no model h here; installed: he, ihc."]}}
    assert refusal(alice, slide) == {"parameters": {"model": ["Name a model; installed: he, ihc."]}}
    mixed = refusal(alice, slide, parameters={"model": "ihc", "model_sha256": facts.sha256})
    assert mixed == {"parameters": {"model": [f"{facts.sha256} is not the hash of ihc, but of he."]}}
    assert "model_sha256" in refusal(alice, slide, parameters={"model_sha256": "../.."})["parameters"]
    assert "tile_px" in refusal(alice, slide, parameters={"tile_px": 513})["parameters"]


def test_without_any_model_a_job_is_accepted_as_it_is(slide: Slide, submit: Callable[..., str], data_dir: Path) -> None:
    assert stored(submit([JOB], slide=str(slide.pk))) == {}


def test_a_simulated_job_has_no_model(alice: APIClient, submit: Callable[..., str], install: Install) -> None:
    install("he")
    assert stored(submit([{**JOB, "parameters": {"tiles": 3}}])) == {"tiles": 3}


def test_all_jobs_of_a_batch_get_one_model(alice: APIClient, slide: Slide, install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    first = install("he", b"1", "2026-01-01T00:00:00.000000Z")
    from scheduling.services import batches

    submit_one = batches.workflow_submit

    def submit_and_install(**wanted: Any) -> Any:
        made = submit_one(**wanted)
        install("he", b"2", "2026-01-02T00:00:00.000000Z")
        return made

    monkeypatch.setattr(batches, "workflow_submit", submit_and_install)
    other = Slide.objects.get(pk=slide.pk)
    other.pk = None
    other.save(force_insert=True)
    answer = alice.post("/workflow/batch", {"template": {"jobs": [JOB]}, "slides": [str(slide.pk), str(other.pk)]})
    assert answer.status_code == 201, answer.content
    assert [job.parameters["model_sha256"] for job in Job.objects.all()] == [first.sha256] * 2


def test_a_batch_names_the_field_of_its_template(alice: APIClient, slide: Slide, install: Install) -> None:
    install("he")
    template = {"jobs": [{**JOB, "parameters": {"model": "ihc"}}]}
    answer = alice.post("/workflow/batch", {"template": template, "slides": [str(slide.pk)]})
    assert answer.status_code == 400
    assert answer.json() == {"template": {"jobs": [{"parameters": {"model": ["There is no model ihc here; installed: he."]}}]}}


# -- requires


@pytest.mark.parametrize("on_slide", [True, False])
def test_a_job_that_requires_a_gpu_is_sent_to_such_workers(
    alice: APIClient, slide: Slide, submit: Callable[..., str], data_dir: Path, on_slide: bool
) -> None:
    where = {"slide": str(slide.pk)} if on_slide else {}
    workflow_id = submit([{**JOB, "requires": "gpu"}, {**JOB, "job_id": "k"}], **where)
    read = alice.get(f"/workflow/{workflow_id}")
    check(read, "/workflow/{workflow_id}")
    assert [job["requires"] for job in read.json()["jobs"]] == ["gpu", "cpu"]
    gpu, cpu = Job.objects.order_by("pk")
    assert (gpu.queue, cpu.queue) == ("gpu", "cpu")
    assert (spec_of(gpu, []).device, spec_of(cpu, []).device) == ("gpu", "cpu")
    if on_slide:
        assert spec_of(gpu, []).digest != spec_of(cpu, []).digest, "tiles of one kind of device would be taken for those of another"


def test_only_types_that_can_use_a_gpu_may_require_one(alice: APIClient, slide: Slide) -> None:
    for where in (slide, None):
        answer = refusal(alice, where, job_type="SEGMENT_CELLS", requires="gpu")
        assert answer == {"requires": ["SEGMENT_CELLS can use no gpu: it computes on a cpu alone."]}
    assert "requires" in refusal(alice, slide, requires="tpu")
    assert "requires" in refusal(alice, slide, requires=None)


def test_a_batch_says_what_its_jobs_require(alice: APIClient, slide: Slide, data_dir: Path) -> None:
    body = {"template": {"jobs": [{**JOB, "requires": "gpu"}]}, "slides": [str(slide.pk)]}
    assert alice.post("/workflow/batch", body).status_code == 201
    assert Job.objects.get().queue == "gpu"
    body = {"template": {"jobs": [{**JOB, "job_type": "TISSUE_MASK", "requires": "gpu"}]}, "slides": [str(slide.pk)]}
    assert alice.post("/workflow/batch", body).json() == {
        "template": {"jobs": [{"requires": ["TISSUE_MASK can use no gpu: it computes on a cpu alone."]}]}
    }

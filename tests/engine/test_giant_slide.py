"""A slide of 8,000 megapixels: what a worker process holds of it is bounded, and killing it changes nothing in the result."""

from __future__ import annotations

import hashlib

import orjson
import pytest
from django.conf import settings

from scheduling.models import Job, Slide, User, Workflow
from scheduling.services.slides import slide_register
from scheduling.services.workflows import JobRequest, WorkflowRequest, workflow_submit
from scheduling.slides.warm import warm
from scheduling.states import JobState
from tests.engine.harness import Engine, Worker, is_running
from tests.support.giant import write_giant

pytestmark = pytest.mark.engine

#: Columns and rows of islands, from the first corner of the slide to the last.
ISLANDS = ((0, 0), (5, 4), (12, 9))
MOST_BYTES = 1.5e9
WITHIN_S = 300


@pytest.fixture
def slide(alice: User) -> Slide:
    path = settings.DATA_DIR / "slides" / "giant.tif"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_giant(path, ISLANDS)
    warm()
    return slide_register(user=alice, path=path.name)


def submitted(alice: User, slide: Slide) -> Workflow:
    """A segmentation that takes nothing from another one."""
    job = JobRequest(job_id="cells", branch="b", job_type="SEGMENT_CELLS", parameters={"tile_px": 512}, slide=slide.pk, cache=False)
    return workflow_submit(user=alice, request=WorkflowRequest(jobs=(job,)))


def artifacts(workflow: Workflow) -> dict[str, str]:
    """Hashes by name; of the summary all but its run."""
    job = Job.objects.get(workflow=workflow)
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 1), job.error
    files = {file.name: file.read_bytes() for file in (settings.DATA_DIR / "results" / str(job.uuid)).iterdir() if file.is_file()}
    summary = orjson.loads(files["summary.json"])
    assert summary["cells"] > 500
    assert summary.pop("run")["tiles"] == job.tiles_total
    files["summary.json"] = orjson.dumps(summary)
    files.pop("log.jsonl", None)
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def test_a_giant_slide_is_segmented_in_bounded_memory_and_a_killed_worker_changes_no_byte(
    engine: Engine, worker: Worker, alice: User, slide: Slide
) -> None:
    assert (slide.width, slide.height) == (100_000, 80_000)
    whole = submitted(alice, slide)
    resident: list[int] = []

    def ended() -> bool:
        resident.extend(child.memory_info().rss for child in worker.children())
        return Workflow.objects.filter(pk=whole.pk, finished_at__isnull=False).exists()

    engine.run_until(ended, "the end of the job", WITHIN_S)
    assert 100e6 < max(resident) < MOST_BYTES, max(resident)

    killed = submitted(alice, slide)
    engine.run_until(lambda: is_running(killed, 6), "some tiles", WITHIN_S)
    worker.kill()
    assert Job.objects.get(workflow=killed).state == JobState.RUNNING
    worker.start()
    engine.finish(killed, within_s=WITHIN_S)
    assert artifacts(killed) == artifacts(whole)

"""Jobs of one owner that do the same work share its tiles and its results; no deletion takes what another job needs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from scheduling.jobtypes.base import JobContext
from scheduling.jobtypes.tissue_mask import TissueMask
from scheduling.models import Event, Job, Slide, User, Workflow
from scheduling.protocol.messages import Kind
from scheduling.services.workflows import JobRequest, workflow_cancel, workflow_delete, workflow_retry
from scheduling.slides.reading.reader import fingerprint
from scheduling.slides.synthetic.slide import write_sample
from scheduling.store.leftovers import unneeded_folders
from scheduling.tilestore.tilefiles import TileFolder, index_digest
from tests.integration.store.house import House
from tests.integration.working import job_of, new_slide, new_user, states, submit
from tests.unit.jobtypes.driving import comparable

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small slide with tissue."""
    path = tmp_path_factory.mktemp("slide") / "sample.tif"
    write_sample(path, width=1600, height=1200, seed=3)
    return path


@pytest.fixture
def alice() -> User:
    """The owner of most of the work."""
    return new_user("alice")


@pytest.fixture(autouse=True)
def _one_data_dir(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The services look where the house is."""
    monkeypatch.setattr(settings, "DATA_DIR", house.data_dir)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(job, tile) of every tile that is computed."""
    seen: list[tuple[str, int]] = []
    process = TissueMask.process

    def counting(self: TissueMask, context: JobContext, tiles: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        for index, payload in process(self, context, tiles):
            seen.append((context.spec.id, index))
            yield index, payload

    monkeypatch.setattr(TissueMask, "process", counting)
    return seen


def slide_of(owner: User, house: House, sample: Path) -> Slide:
    """The sample as this user's slide."""
    folder = house.data_dir / "slides"
    folder.mkdir(exist_ok=True)
    path = folder / f"{owner.username}.tif"
    if not path.exists():
        os.link(sample, path)
    return new_slide(owner, path.name, fingerprint=fingerprint(path))


def mask(slide: Slide, job_id: str = "j1", branch: str = "b1", **fields: Any) -> JobRequest:
    """A real tissue mask."""
    return JobRequest(job_id=job_id, branch=branch, job_type="TISSUE_MASK", slide=slide.pk, **fields)


def files_of(house: House, workflow: Workflow, job_id: str = "j1") -> dict[str, bytes]:
    """The job's published files."""
    folder = house.data_dir / "results" / str(job_of(workflow, job_id).uuid)
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def kinds(house: House, job: Job) -> list[Kind]:
    """Of the bundles sent for a job."""
    return [bundle.kind for bundle in house.pool.sent if bundle.spec.id == str(job.uuid)]


def finished(workflow: Workflow, job_id: str = "j1") -> Event:
    """The event of the job's end."""
    return Event.objects.get(type="job.finished", job_uuid=job_of(workflow, job_id).uuid)


def run_one(house: House, owner: User, request: JobRequest) -> Workflow:
    """Submit it and see it end well."""
    workflow = submit(owner, request)
    house.finish()
    assert set(states(workflow).values()) == {"SUCCEEDED"}, job_of(workflow).error
    return workflow


def test_the_same_work_again_is_answered_from_what_is_there_and_needs_no_slide(house: House, alice: User, sample: Path) -> None:
    slide = slide_of(alice, house, sample)
    first = run_one(house, alice, mask(slide))
    (house.data_dir / slide.path).unlink()
    second = run_one(house, alice, mask(slide))
    done, again = job_of(first), job_of(second)
    assert (done.cached, again.cached) == (False, True)
    assert (again.tiles_processed, again.tiles_total) == (done.tiles_total, done.tiles_total)
    assert (again.artifacts, again.warnings, again.digest) == (done.artifacts, done.warnings, done.digest)
    assert files_of(house, first) == files_of(house, second)
    assert set(kinds(house, again)) == {Kind.PLAN}
    assert finished(first).data["cached"] is False
    assert finished(second).data["cached"] is True
    whole = index_digest([[0, done.tiles_total]])
    assert finished(first).data["index_sha256"] == finished(second).data["index_sha256"] == whole
    assert Event.objects.filter(type="job.started", job_uuid=again.uuid).count() == 1
    assert done.disk_bytes > again.disk_bytes == sum(artifact["size"] for artifact in again.artifacts)


def test_defaults_written_out_are_the_same_work_and_another_parameter_is_another(house: House, alice: User, sample: Path) -> None:
    slide = slide_of(alice, house, sample)
    run_one(house, alice, mask(slide))
    same = run_one(house, alice, mask(slide, parameters={"method": "saturation", "dilate_um": 16}))
    other = run_one(house, alice, mask(slide, parameters={"dilate_um": 17}))
    assert [job_of(flow).cached for flow in (same, other)] == [True, False]


def test_what_follows_an_input_that_was_made_again_is_the_same_work(house: House, alice: User, sample: Path) -> None:
    slide = slide_of(alice, house, sample)
    cells = JobRequest(job_id="cells", branch="b1", job_type="SEGMENT_CELLS", slide=slide.pk)
    flows = []
    for _ in range(2):
        flows.append(submit(alice, mask(slide, cache=False), cells))
        house.finish()
    first, second = (files_of(house, flow) for flow in flows)
    assert {name for name in first if first[name] != second[name]} == {"summary.json"}
    assert [(job_of(flow).cached, job_of(flow, "cells").cached) for flow in flows] == [(False, False), (False, True)]


def test_work_of_another_owner_is_never_taken(house: House, alice: User, sample: Path) -> None:
    bob = new_user("bob")
    first = run_one(house, alice, mask(slide_of(alice, house, sample)))
    second = run_one(house, bob, mask(slide_of(bob, house, sample)))
    assert not job_of(second).cached
    assert job_of(first).digest != job_of(second).digest


def test_a_changed_resolution_or_a_newer_job_type_is_other_work(
    house: House, alice: User, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = slide_of(alice, house, sample)
    run_one(house, alice, mask(slide))
    monkeypatch.setattr(TissueMask, "version", f"{TissueMask.version}.1")
    newer = run_one(house, alice, mask(slide))
    Slide.objects.update(mpp=0.4)
    finer = run_one(house, alice, mask(slide))
    assert [job_of(flow).cached for flow in (newer, finer)] == [False, False]


def test_a_job_that_forbids_it_neither_takes_nor_gives(house: House, alice: User, sample: Path, computed: list[tuple[str, int]]) -> None:
    slide = slide_of(alice, house, sample)
    first = run_one(house, alice, mask(slide, cache=False))
    assert (house.data_dir / "tiles" / job_of(first).digest / "0.pack").exists(), "tiles that the viewer shows went"
    assert job_of(first).disk_bytes > sum(artifact["size"] for artifact in job_of(first).artifacts)
    second = run_one(house, alice, mask(slide))
    third = run_one(house, alice, mask(slide, cache=False))
    assert [job_of(flow).cached for flow in (first, second, third)] == [False] * 3
    assert len(computed) == 3 * (job_of(first).tiles_total or 0)


def test_nothing_simulated_is_answered_from_a_store(house: House, alice: User) -> None:
    flows = [run_one(house, alice, JobRequest(job_id="j1", branch="b", job_type="SEGMENT_CELLS")) for _ in range(2)]
    assert [job_of(flow).cached for flow in flows] == [False, False]
    assert list((house.data_dir / "tiles").iterdir()) == []


def test_a_branch_of_mask_and_segmentation_is_answered_again_as_a_whole(house: House, alice: User, sample: Path) -> None:
    slide = slide_of(alice, house, sample)
    cells = JobRequest(job_id="j2", branch="b1", job_type="SEGMENT_CELLS", slide=slide.pk)
    first = submit(alice, mask(slide), cells)
    house.finish()
    second = submit(alice, mask(slide), cells)
    house.finish()
    assert set(states(first).values()) == set(states(second).values()) == {"SUCCEEDED"}
    assert [job_of(second, job_id).cached for job_id in ("j1", "j2")] == [True, True]
    assert files_of(house, first, "j2") == files_of(house, second, "j2")


def test_damaged_results_are_made_from_the_kept_tiles(house: House, alice: User, sample: Path, computed: list[tuple[str, int]]) -> None:
    slide = slide_of(alice, house, sample)
    first = run_one(house, alice, mask(slide))
    right = comparable(files_of(house, first))
    (house.data_dir / "results" / str(job_of(first).uuid) / "mask.png").write_bytes(b"no mask")
    computed.clear()
    second = run_one(house, alice, mask(slide))
    assert (job_of(second).cached, comparable(files_of(house, second)), computed) == (False, right, [])


def test_equal_jobs_at_the_same_time_help_each_other(house: House, alice: User, sample: Path, computed: list[tuple[str, int]]) -> None:
    slide = slide_of(alice, house, sample)
    workflow = submit(alice, mask(slide, "j1", "a"), mask(slide, "j2", "b"))
    house.finish()
    assert set(states(workflow).values()) == {"SUCCEEDED"}
    assert sorted(tile for _, tile in computed) == list(range(job_of(workflow).tiles_total or 0))
    assert len({job for job, _ in computed}) == 2
    assert comparable(files_of(house, workflow, "j1")) == comparable(files_of(house, workflow, "j2"))


def test_a_failed_real_job_goes_on_from_its_tiles_when_it_is_retried(
    house: House,
    alice: User,
    sample: Path,
    computed: list[tuple[str, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = TissueMask.process

    def failing(self: TissueMask, context: JobContext, tiles: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        if tiles[0] == 5:
            raise OSError("a bad block")
        yield from process(self, context, tiles)

    with monkeypatch.context() as patch:
        patch.setattr(TissueMask, "process", failing)
        workflow = submit(alice, mask(slide_of(alice, house, sample)))
        house.finish()
    assert states(workflow) == {"j1": "FAILED"}
    kept = {tile for _, tile in computed}
    assert kept
    computed.clear()
    workflow_retry(workflow=workflow, actor="alice")
    house.finish()
    assert states(workflow) == {"j1": "SUCCEEDED"}
    assert {tile for _, tile in computed} == set(range(job_of(workflow).tiles_total or 0)) - kept


def test_a_tile_damaged_before_finishing_is_made_again_and_the_job_succeeds(house: House, alice: User, sample: Path) -> None:
    workflow = submit(alice, mask(slide_of(alice, house, sample)))
    damaged: list[int] = []

    def damage(bundle: Any) -> str:
        if bundle.kind is Kind.FINISH and not damaged:
            tiles = TileFolder(house.data_dir / "tiles" / bundle.spec.digest)
            tiles.tile_path(2).write_bytes(tiles.tile_path(3).read_bytes())
            damaged.append(2)
        return "done"

    house.pool.fate = damage
    house.finish()
    assert (states(workflow), damaged) == ({"j1": "SUCCEEDED"}, [2])
    assert kinds(house, job_of(workflow)).count(Kind.PLAN) == 2
    assert finished(workflow).data["index_sha256"] == index_digest([[0, job_of(workflow).tiles_total]])


def test_deleting_one_workflow_leaves_the_other_its_results_and_the_tiles(house: House, alice: User, sample: Path) -> None:
    slide = slide_of(alice, house, sample)
    first, second = (run_one(house, alice, mask(slide)) for _ in range(2))
    files, tiles = files_of(house, second), house.data_dir / "tiles" / job_of(second).digest
    workflow_delete(workflow=first, actor="alice")
    assert files_of(house, second) == files
    assert tiles.exists()
    third = run_one(house, alice, mask(slide))
    assert job_of(third).cached
    for flow in (second, third):
        workflow_delete(workflow=flow, actor="alice")
    assert not tiles.exists()
    assert list((house.data_dir / "results").iterdir()) == []


def test_deleting_a_workflow_does_not_harm_a_job_of_the_same_work_that_runs(
    house: House,
    alice: User,
    sample: Path,
    computed: list[tuple[str, int]],
) -> None:
    slide = slide_of(alice, house, sample)
    first, second = submit(alice, mask(slide)), submit(alice, mask(slide))
    house.step(3)
    assert states(second) == {"j1": "RUNNING"}
    workflow_cancel(workflow=first, actor="alice")
    house.step(2)
    assert states(first) == {"j1": "CANCELLED"}
    workflow_delete(workflow=first, actor="alice")
    house.finish()
    assert states(second) == {"j1": "SUCCEEDED"}
    tiles = [tile for _, tile in computed]
    assert len(tiles) == len(set(tiles)) == job_of(second).tiles_total


def test_a_folder_discarded_at_the_moment_of_a_claim_is_planned_again(house: House, alice: User, sample: Path) -> None:
    slide = slide_of(alice, house, sample)
    first = run_one(house, alice, mask(slide))
    second = submit(alice, mask(slide, parameters={}))
    (house.data_dir / "results" / str(job_of(first).uuid) / "mask.png").unlink()
    taken: list[str] = []

    def take_away(bundle: Any) -> str:
        if not taken:
            (house.data_dir / "tiles" / bundle.spec.digest).rename(house.data_dir / "discarded")
            taken.append(bundle.id)
        return "done"

    house.pool.fate = take_away
    house.finish()
    assert states(second) == {"j1": "SUCCEEDED"}
    assert not job_of(second).cached


def test_housekeeping_keeps_the_tiles_of_work_on_a_slide_until_it_is_deleted(house: House, alice: User, sample: Path) -> None:
    slide = slide_of(alice, house, sample)
    kept = run_one(house, alice, mask(slide))
    tiles = house.data_dir / "tiles"
    for name in ("of-nobody", "of-a-simulated-job"):
        (tiles / name).mkdir()
    unshared = run_one(house, alice, mask(slide, cache=False))
    simulated = run_one(house, alice, JobRequest(job_id="j1", branch="b", job_type="SEGMENT_CELLS"))
    Job.objects.filter(pk=job_of(simulated).pk).update(digest="of-a-simulated-job")
    later = timezone.now().timestamp() + 3600
    found = {path.name for path in unneeded_folders(house.data_dir, later)}
    assert found == {"of-nobody", "of-a-simulated-job"}
    assert all((tiles / job_of(flow).digest).exists() for flow in (kept, unshared))
    digest = job_of(unshared).digest
    workflow_delete(workflow=unshared, actor="alice")
    assert not (tiles / digest).exists()


def test_jobs_of_the_same_work_begin_in_different_places(house: House, alice: User, sample: Path) -> None:
    slide = slide_of(alice, house, sample)
    submit(alice, *(mask(slide, f"j{n}", f"b{n}") for n in range(4)))
    house.step()
    begun = {entry.claimed.begins_at for entry in house.loop._ledger._entries.values()}
    assert begun == {0.0, 0.5, 0.25, 0.75}

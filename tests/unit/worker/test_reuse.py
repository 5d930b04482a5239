"""The same work again on a worker: results are linked after they were verified, else the tiles that are left are used."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from scheduling.jobtypes import registry
from scheduling.jobtypes.base import JobContext, JobSpec, JobType, Plan, ReuseRef, SlideRef, Step, WorkerSettings
from scheduling.protocol.messages import Bundle, Kind, Outcome
from scheduling.tilestore.stage_times import PREFIX
from scheduling.tilestore.tilefiles import FolderGone, MissingTile
from scheduling.worker import running
from scheduling.worker.task import run

TILES = 2050
SLIDE = SlideRef(id="s", name="a.tiff", path="slides/a.tiff", fingerprint="f", mpp=0.5)


class Counted(JobType):
    """Each tile is its index; the artifacts are their sum and a note. Opens no slide."""

    version: ClassVar[str] = "1"
    parameters: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        self.computed: list[int] = []
        self.planned = 0

    def plan(self, context: JobContext) -> Plan:
        """So many tiles."""
        self.planned += 1
        return Plan(tiles_total=TILES)

    def process(self, context: JobContext, tiles: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Each tile's index."""
        self.computed += tiles
        for index in tiles:
            yield index, str(index).encode()

    def finish(self, context: JobContext) -> Sequence[Step]:
        """Two artifacts."""
        return [lambda: self._write(context, "sum.txt"), lambda: self._write(context, "note.txt")]

    @staticmethod
    def _write(context: JobContext, name: str) -> None:
        total = sum(int(context.tiles.read(index)) for index in range(0, TILES, 500))
        with context.write_part(name) as file:
            file.write(f"{name} {total}".encode())
        context.publish_artifact(name)


@pytest.fixture
def job_type(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Registered as the only one."""
    found = Counted()
    monkeypatch.setattr(registry, "runner", lambda name, *, simulated: found)
    return found


def spec_of(name: str, **changes: Any) -> JobSpec:
    return JobSpec(id=name, owner="o", job_type="COUNTED", parameters={}, slide=SLIDE, digest="work", **{"keeps_tiles": True, **changes})


def context_of(data_dir: Path, name: str, **changes: Any) -> JobContext:
    """A job of the same work as any other made here; its folders exist."""
    context = JobContext(spec=spec_of(name, **changes), settings=WorkerSettings(data_dir=data_dir))
    context.tiles.path.mkdir(parents=True, exist_ok=True)
    context.results.mkdir(parents=True)
    return context


def carry_out(context: JobContext, kind: Kind, time_box_s: float = 60.0, **changes: Any) -> Outcome:
    """One bundle."""
    bundle = Bundle(id="b", kind=kind, term=1, epoch=1, spec=context.spec, time_box_s=time_box_s, **changes)
    return run(bundle, context.settings)


def complete(context: JobContext) -> Outcome:
    """All tiles, then all steps of finishing, one in a bundle; the last outcome."""
    carry_out(context, Kind.TILES, tiles=tuple(range(TILES)))
    return finish(context)


def finish(context: JobContext) -> Outcome:
    """All steps of finishing, one in a bundle; the last outcome."""
    outcome = carry_out(context, Kind.FINISH, 0.0, tiles_total=TILES)
    while outcome.next_step is not None:
        outcome = carry_out(context, Kind.FINISH, 0.0, tiles_total=TILES, step=outcome.next_step)
    return outcome


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A DATA_DIR in which the job "first" is complete, and its last outcome: thousands of files are written once."""
    data_dir = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(registry, "runner", lambda name, *, simulated: Counted())
        return data_dir, complete(context_of(data_dir, "first"))


@pytest.fixture
def first(finished: tuple[Path, Outcome], tmp_path: Path, job_type: Counted) -> JobContext:
    """That job, in a DATA_DIR of the test's own."""
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    return JobContext(spec=spec_of("first"), settings=WorkerSettings(data_dir=tmp_path))


@pytest.fixture
def outcome(finished: tuple[Path, Outcome]) -> Outcome:
    """How it ended."""
    return finished[1]


def again(first: JobContext, outcome: Outcome, name: str = "second", **changes: Any) -> JobContext:
    """Another job of the same work, to be answered from the first."""
    assert outcome.artifacts is not None
    reuse = ReuseRef(job=first.spec.id, tiles_total=TILES, artifacts=outcome.artifacts, warnings=("w",))
    return context_of(first.settings.data_dir, name, reuse=reuse, **changes)


def plan(context: JobContext, time_box_s: float = 60.0) -> list[Outcome]:
    """All parts of the survey."""
    outcomes = [carry_out(context, Kind.PLAN, time_box_s)]
    while outcomes[-1].next_step is not None:
        outcomes.append(carry_out(context, Kind.PLAN, time_box_s, step=outcomes[-1].next_step))
    return outcomes


def content(context: JobContext) -> dict[str, bytes]:
    """The published files."""
    return {file.name: file.read_bytes() for file in context.results.iterdir() if file.is_file()}


def test_finishing_packs_the_tiles_and_tells_what_it_found(tmp_path: Path, job_type: Counted) -> None:
    first = context_of(tmp_path, "first")
    outcome = complete(first)
    files = content(first)
    assert sorted(path.name for path in first.tiles.path.iterdir() if not path.name.startswith(PREFIX)) == ["0.pack", "1.pack", "2.pack"]
    assert [artifact["name"] for artifact in outcome.artifacts or ()] == ["note.txt", "sum.txt"] == sorted(files)
    assert outcome.found == ((0, TILES),)
    on_disk = [*first.tiles.path.iterdir(), *(first.results / name for name in files)]
    assert outcome.disk_bytes == sum(path.stat().st_size for path in on_disk)


def test_tiles_of_a_job_that_keeps_none_are_verified_and_left_to_be_removed(tmp_path: Path, job_type: Counted) -> None:
    outcome = complete(first := context_of(tmp_path, "first", keeps_tiles=False))
    assert sorted(path.name for path in first.tiles.path.iterdir() if not path.name.startswith(PREFIX)) == ["0", "1", "2"]
    assert outcome.found == ((0, TILES),)
    assert outcome.disk_bytes == sum(len(data) for data in content(first).values())


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("lost", [3, 1999, TILES - 1])
def test_a_tile_that_went_before_finishing_makes_the_job_plan_again(tmp_path: Path, job_type: Counted, keeps: bool, lost: int) -> None:
    first = context_of(tmp_path, "first", keeps_tiles=keeps)
    carry_out(first, Kind.TILES, tiles=tuple(range(TILES)))
    first.tiles.tile_path(lost).unlink()
    outcome = finish(first)
    assert (outcome.is_damaged, outcome.artifacts) == (True, None)
    (found,) = plan(first)
    assert found.plan is not None
    assert found.plan.finished == tuple(pair for pair in ((0, lost), (lost + 1, TILES)) if pair[0] < pair[1])
    job_type.computed.clear()
    assert complete(first).found == ((0, TILES),)
    assert job_type.computed == [lost]


def test_a_tile_that_goes_after_it_was_verified_is_missed_at_the_end(tmp_path: Path, job_type: Counted) -> None:
    first = context_of(tmp_path, "first", keeps_tiles=False)
    complete(first)
    first.tiles.tile_path(1200).unlink()
    with pytest.raises(MissingTile):
        running.kept(first, TILES)


def test_a_survey_of_many_tiles_goes_on_bundle_by_bundle(tmp_path: Path, job_type: Counted) -> None:
    first = context_of(tmp_path, "first")
    carry_out(first, Kind.TILES, tiles=(0, 1, 999, 1000, 2040))
    parts = plan(first, time_box_s=0.0)
    assert [part.next_step for part in parts] == [1, 2, None]
    assert [part.plan and part.plan.finished for part in parts] == [((0, 2), (999, 1000)), ((1000, 1001),), ((2040, 2041),)]


def test_a_tile_that_another_job_of_the_same_work_has_finished_is_not_computed_again(tmp_path: Path, job_type: Counted) -> None:
    first, second = context_of(tmp_path, "first"), context_of(tmp_path, "second")
    carry_out(first, Kind.TILES, tiles=(0, 1, 2))
    outcome = carry_out(second, Kind.TILES, tiles=(1, 2, 3, 4), batch=2)
    assert outcome.done == (1, 2, 3, 4)
    assert job_type.computed == [0, 1, 2, 3, 4]


def test_two_jobs_that_finish_the_same_work_at_the_same_time_both_complete(tmp_path: Path, job_type: Counted) -> None:
    jobs = [context_of(tmp_path, "first"), context_of(tmp_path, "second")]
    carry_out(jobs[0], Kind.TILES, tiles=tuple(range(TILES)))
    steps: list[int | None] = [0, 0]
    outcomes: list[Outcome | None] = [None, None]
    while any(step is not None for step in steps):
        for place, context in enumerate(jobs):
            if (step := steps[place]) is not None:
                outcomes[place] = found = carry_out(context, Kind.FINISH, 0.0, tiles_total=TILES, step=step)
                steps[place] = found.next_step
    assert content(jobs[0]) == content(jobs[1])
    assert [outcome and outcome.found for outcome in outcomes] == [((0, TILES),)] * 2


def test_the_same_work_again_is_answered_by_links_without_planning_or_computing(
    first: JobContext, outcome: Outcome, job_type: Counted
) -> None:
    job_type.planned = 0
    job_type.computed.clear()
    second = again(first, outcome)
    parts = plan(second, time_box_s=0.0)
    assert [part.next_step for part in parts] == [1, 2, None]
    last = parts[-1]
    assert (last.artifacts, last.found) == (outcome.artifacts, ((0, TILES),))
    assert last.plan is not None
    assert (last.plan.tiles_total, last.plan.finished, last.plan.warnings) == (TILES, ((0, TILES),), ("w",))
    assert content(second) == content(first)
    assert all((second.results / name).samefile(first.results / name) for name in content(first))
    assert not (second.results / ".parts").exists()
    assert (job_type.planned, job_type.computed) == (0, [])


def test_an_answer_that_is_given_twice_is_the_same(first: JobContext, outcome: Outcome, job_type: Counted) -> None:
    second = again(first, outcome)
    plan(second)
    (repeated,) = plan(second)
    assert repeated.artifacts == outcome.artifacts
    assert carry_out(second, Kind.PLAN, step=2).artifacts == outcome.artifacts, "the last step, run again"
    assert content(second) == content(first)


def test_results_outlive_the_job_that_they_were_taken_from(first: JobContext, outcome: Outcome, job_type: Counted) -> None:
    second = again(first, outcome)
    plan(second)
    before = content(first)
    shutil.rmtree(first.results)
    assert content(second) == before


def overwrite(path: Path) -> None:
    path.write_bytes(path.read_bytes().swapcase())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def link_elsewhere(path: Path) -> None:
    path.symlink_to(path.rename(path.with_name("moved")))


def make_a_folder_of(path: Path) -> None:
    path.unlink()
    path.mkdir()


def remove_all(path: Path) -> None:
    shutil.rmtree(path.parent)


@pytest.mark.parametrize("damage", [overwrite, cut, Path.unlink, link_elsewhere, make_a_folder_of, remove_all])
@pytest.mark.parametrize("name", ["note.txt", "sum.txt"])
def test_results_that_are_damaged_or_gone_are_made_from_the_kept_tiles(
    first: JobContext, outcome: Outcome, job_type: Counted, damage: Callable[[Path], None], name: str
) -> None:
    right = content(first)
    damage(first.results / name)
    job_type.computed.clear()
    second = again(first, outcome)
    found = plan(second)[-1]
    assert found.artifacts is None
    assert found.plan is not None
    assert found.plan.finished == ((0, TILES),)
    assert complete(second).found == ((0, TILES),)
    assert (content(second), job_type.computed) == (right, [])


def test_without_results_and_tiles_the_work_is_done_anew(first: JobContext, outcome: Outcome, job_type: Counted) -> None:
    right = content(first)
    shutil.rmtree(first.results)
    shutil.rmtree(first.tiles.path)
    second = again(first, outcome)
    assert [part.plan and part.plan.finished for part in plan(second)] == [()]
    complete(second)
    assert content(second) == right


def test_where_files_cannot_be_linked_they_are_copied(
    first: JobContext, outcome: Outcome, job_type: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:

    def refuse(source: Path, target: Path, **options: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    second = again(first, outcome)
    assert plan(second)[-1].artifacts == outcome.artifacts
    assert content(second) == content(first)
    assert not (second.results / "sum.txt").samefile(first.results / "sum.txt")


def test_a_part_lost_on_the_way_voids_the_answer(first: JobContext, outcome: Outcome, job_type: Counted) -> None:
    second = again(first, outcome)
    part = carry_out(second, Kind.PLAN, 0.0)
    shutil.rmtree(second.results / ".parts")
    (second.results / "note.txt").write_bytes(b"of an attempt before")
    found = carry_out(second, Kind.PLAN, step=2)
    assert part.next_step == 1
    assert found.artifacts is None
    assert found.plan is not None


def test_a_deleted_job_is_gone_before_it_is_answered(first: JobContext, outcome: Outcome, job_type: Counted) -> None:
    second = again(first, outcome)
    second.results.rmdir()
    assert carry_out(second, Kind.PLAN).is_gone
    with pytest.raises(FolderGone):
        running.survey(job_type, second)


def test_work_without_artifacts_is_answered_too(tmp_path: Path, job_type: Counted) -> None:
    reuse = ReuseRef(job="first", tiles_total=0, artifacts=())
    second = context_of(tmp_path, "second", reuse=reuse)
    (found,) = plan(second)
    assert (found.artifacts, found.found, found.disk_bytes) == ((), (), 0)


def test_what_is_to_be_reused_survives_the_wire(tmp_path: Path) -> None:
    artifacts = ({"name": "a", "size": 1, "sha256": hashlib.sha256(b"a").hexdigest()},)
    reuse = ReuseRef(job="j", tiles_total=3, artifacts=artifacts, warnings=("w",))
    spec = context_of(tmp_path, "second").spec
    for sent in (spec, replace(spec, reuse=reuse)):
        assert JobSpec.from_json(sent.to_json()) == sent

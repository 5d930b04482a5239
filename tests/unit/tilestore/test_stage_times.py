"""Seconds by stage: counted once each, noted by every process for itself, told in `run` of the summary and nowhere else."""

from __future__ import annotations

import copy
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from scheduling.jobtypes.base import JobContext
from scheduling.jobtypes.segment_cells import SegmentCells
from scheduling.jobtypes.tissue_mask import TissueMask
from scheduling.slides.synthetic.slide import write_sample
from scheduling.tilestore.stage_times import PREFIX, Work, note, noted
from scheduling.worker.running import compute, survey
from tests.unit.jobtypes.driving import artifacts_of, comparable, job_context, run_job

NAP_S = 0.02


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "sample.tif"
    write_sample(path, width=1500, height=1100, seed=11)
    return path


def run_part(context: JobContext) -> dict[str, Any]:
    run: dict[str, Any] = orjson.loads(artifacts_of(context)["summary.json"])["run"]
    return run


def worked(tiles: int, **seconds: float) -> Work:
    work = Work()
    work.tiles = tiles
    for name, value in seconds.items():
        work.add(name, value)
    return work


def test_a_stage_inside_another_counts_for_itself_alone() -> None:
    work, began = Work(), time.perf_counter()
    with work.stage("outer"):
        time.sleep(NAP_S)
        for _ in range(2):
            with work.stage("inner"):
                time.sleep(NAP_S)
    assert work.seconds["inner"] >= 2 * NAP_S
    assert work.seconds["outer"] >= NAP_S
    assert sum(work.seconds.values()) <= time.perf_counter() - began


def test_a_stage_that_raises_is_counted() -> None:
    work = Work()
    with pytest.raises(KeyError), work.stage("read"):
        raise KeyError
    assert work.seconds["read"] > 0


def test_threads_do_not_take_each_others_stages_for_their_own() -> None:
    work, is_read = Work(), threading.Event()

    def read() -> None:
        with work.stage("read"):
            time.sleep(NAP_S)
        is_read.set()

    with work.stage("detect"):
        threading.Thread(target=read).start()
        assert is_read.wait(10)
    assert work.seconds["read"] >= NAP_S
    assert work.seconds["detect"] >= work.seconds["read"]


def test_work_that_goes_to_another_process_begins_at_nothing() -> None:
    copied = copy.copy(worked(3, read=1.0))
    assert (copied.tiles, copied.seconds) == (0, {})


def test_what_processes_note_adds_up_and_each_has_its_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for pid in (1, 2, 1):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        work = worked(2, read=0.5, write=0.25)
        note(tmp_path, work)
        assert (work.tiles, work.seconds) == (0, {})
    assert sorted(len(path.read_bytes().splitlines()) for path in tmp_path.iterdir()) == [1, 2]
    total = noted(tmp_path)
    assert (total.tiles, total.seconds) == (6, {"read": 1.5, "write": 0.75})


@pytest.mark.parametrize(
    "damage",
    [b'{"tiles":1,"seconds":{"re', b"\xff\xfe\n", b"[1]\n", b'{"tiles":"x","seconds":{}}\n', b'{"tiles":1,"seconds":{"read":"x"}}\n'],
)
def test_lines_that_are_not_whole_are_left_out(tmp_path: Path, damage: bytes) -> None:
    note(tmp_path, worked(2, read=0.5))
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes() + damage)
    (tmp_path / f"{PREFIX}folder").mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(file)
    total = noted(tmp_path)
    assert (total.tiles, total.seconds) == (2, {"read": 0.5})


def test_where_nothing_can_be_noted_no_tile_fails_for_it(tmp_path: Path) -> None:
    note(tmp_path / "gone", worked(2, read=0.5))
    assert noted(tmp_path / "gone").seconds == {}


def test_a_summary_says_where_the_time_of_a_segmentation_went(tmp_path: Path, slide: Path) -> None:
    context, began = job_context(tmp_path, slide, SegmentCells(), name="job", tile_px=400), time.perf_counter()
    plan = run_job(SegmentCells(), context)
    took, run = time.perf_counter() - began, run_part(context)
    assert list(run["seconds"]) == ["plan", "read", "detect", "post", "write", "export"]
    assert min(run["seconds"].values()) > 0
    # One process did it, so what it worked is no more than what the clock says, and most of that.
    assert 0.5 * took < sum(run["seconds"].values()) <= took
    assert run["tiles"] == run["tiles_computed"] == plan.tiles_total
    tiles_s = sum(run["seconds"][stage] for stage in ("read", "detect", "post", "write"))
    assert run["tiles_per_worker_s"] == pytest.approx(plan.tiles_total / tiles_s, rel=0.05)
    assert run["mpx_per_worker_s"] == pytest.approx(run["tiles_per_worker_s"] * 0.16, rel=0.05)


def test_a_summary_says_where_the_time_of_a_tissue_mask_went(tmp_path: Path, slide: Path) -> None:
    context = job_context(tmp_path, slide, TissueMask(), name="job")
    plan = run_job(TissueMask(), context)
    run = run_part(context)
    assert list(run["seconds"]) == ["plan", "read", "write", "find", "export"]
    assert min(run["seconds"].values()) >= 0
    assert run["seconds"]["find"] > 0
    assert run["tiles"] == run["tiles_computed"] == plan.tiles_total


def test_nothing_but_run_differs_between_two_runs_and_a_repeated_step_changes_not_even_that(tmp_path: Path, slide: Path) -> None:
    first, second = (job_context(tmp_path, slide, SegmentCells(), name=name, tile_px=400) for name in ("one", "two"))
    for context in (first, second):
        run_job(SegmentCells(), context)
    assert comparable(artifacts_of(first)) == comparable(artifacts_of(second))
    tiles = range(SegmentCells().plan(first).tiles_total)
    assert [first.tiles.read(tile) for tile in tiles] == [second.tiles.read(tile) for tile in tiles]
    before = artifacts_of(first)["summary.json"]
    compute(SegmentCells(), replace(first, work=Work()), [0], batch=1, is_over=lambda: False)
    for step in SegmentCells().finish(first):
        step()
    assert artifacts_of(first)["summary.json"] == before


def test_jobs_at_the_same_work_both_tell_what_the_tiles_took(tmp_path: Path, slide: Path) -> None:
    one = job_context(tmp_path, slide, SegmentCells(), name="one", tile_px=400)
    other = replace(one, spec=replace(one.spec, id="other"), work=Work())
    other.results.mkdir()
    total = survey(SegmentCells(), one).plan.tiles_total
    for context, tiles in ((one, range(total // 2)), (other, range(total // 2, total))):
        compute(SegmentCells(), context, tiles, batch=1, is_over=lambda: False)
    for context in (one, other):
        run_job(SegmentCells(), context)
    runs = [run_part(context) for context in (one, other)]
    assert [run["tiles_computed"] for run in runs] == [total, total]
    assert runs[0]["seconds"]["detect"] == runs[1]["seconds"]["detect"]


def test_what_is_noted_lies_beside_the_tiles_and_is_counted_as_disk(tmp_path: Path, slide: Path) -> None:
    context = job_context(tmp_path, slide, SegmentCells(), name="job", tile_px=400)
    run_job(SegmentCells(), context)
    (file,) = context.tiles.path.glob(f"{PREFIX}*")
    total = SegmentCells().plan(context).tiles_total
    assert context.tiles.named(total) == [[0, total]]
    with_it = context.tiles.kept_bytes()
    size = file.stat().st_size
    file.unlink()
    assert context.tiles.kept_bytes() == with_it - size

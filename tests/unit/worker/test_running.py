"""Carrying out bundles: the time box, what raises, steps that go on where they stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from scheduling.jobtypes.base import JobContext, JobSpec, JobType, Plan, Step, TileFailed, WorkerSettings
from scheduling.tilestore.tilefiles import FolderGone
from scheduling.worker import running


class Numbers(JobType):
    """Writes each tile's index; does as told."""

    version: ClassVar[str] = "1"
    parameters: ClassVar[dict[str, Any]] = {}

    def __init__(
        self, batches: list[tuple[int, ...]] | None = None, misbehave: Callable[[int], Iterator[tuple[int, bytes]]] | None = None
    ) -> None:
        self.batches = batches if batches is not None else []
        self.misbehave = misbehave

    def plan(self, context: JobContext) -> Plan:
        """Ten tiles in batches of three."""
        return Plan(tiles_total=10, batch=3)

    def process(self, context: JobContext, tiles: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Each tile's index."""
        self.batches.append(tuple(tiles))
        for index in tiles:
            if self.misbehave is None:
                yield index, str(index).encode()
            else:
                yield from self.misbehave(index)

    def finish(self, context: JobContext) -> Sequence[Step]:
        """Two parts and their publication."""
        return [lambda: self._part(context, "a"), lambda: self._part(context, "b"), lambda: context.publish_artifact("a.geojson")]

    @staticmethod
    def _part(context: JobContext, name: str) -> None:
        with context.write_part(f"{name}.geojson") as file:
            file.write(name.encode())


@pytest.fixture
def context(tmp_path: Path) -> JobContext:
    """A job whose folders exist."""
    spec = JobSpec(id="job", owner="o", job_type="NUMBERS", parameters={}, slide=None, digest="digest")
    found = JobContext(spec=spec, settings=WorkerSettings(data_dir=tmp_path))
    found.tiles.path.mkdir(parents=True)
    found.results.mkdir(parents=True)
    return found


def never() -> bool:
    """A time box without an end."""
    return False


def after(calls: int) -> Callable[[], bool]:
    """A time box that is over at the nth look."""
    answers = iter([*[False] * (calls - 1), True])
    return lambda: next(answers)


def test_the_survey_says_which_tiles_are_finished_already(context: JobContext) -> None:
    for index in (0, 1, 2, 8):
        context.tiles.publish(index, b"t")
    found = running.survey(Numbers(), context)
    assert (found.plan.tiles_total, found.finished, found.next_step) == (10, [[0, 3], [8, 9]], None)


def test_a_survey_of_a_deleted_job_finds_its_folder_gone(context: JobContext) -> None:
    context.tiles.path.rmdir()
    with pytest.raises(FolderGone):
        running.survey(Numbers(), context)


def test_tiles_are_computed_batch_by_batch_and_published(context: JobContext) -> None:
    job_type = Numbers()
    assert running.compute(job_type, context, range(7), batch=3, is_over=never) == ([0, 1, 2, 3, 4, 5, 6], None)
    assert job_type.batches == [(0, 1, 2), (3, 4, 5), (6,)]
    assert context.tiles.read(6) == b"6"


def test_a_bundle_stops_at_the_first_border_after_its_time(context: JobContext) -> None:
    done, failed = running.compute(Numbers(), context, range(10), batch=3, is_over=after(2))
    assert (done, failed) == ([0, 1, 2, 3, 4, 5], None)


def test_a_bundle_whose_time_is_over_at_once_still_gets_on(context: JobContext) -> None:
    assert running.compute(Numbers(), context, range(10), batch=1, is_over=lambda: True)[0] == [0]


def fails_at(tile: int, error: Exception) -> Callable[[int], Iterator[tuple[int, bytes]]]:
    """A job type whose one tile raises."""

    def misbehave(index: int) -> Iterator[tuple[int, bytes]]:
        if index == tile:
            raise error
        yield index, b"t"

    return misbehave


def test_a_tile_that_says_it_failed_is_blamed_and_those_before_it_count(context: JobContext) -> None:
    done, failed = running.compute(Numbers(misbehave=fails_at(4, TileFailed(4, "no"))), context, range(9), batch=3, is_over=never)
    assert done == [0, 1, 2, 3]
    assert failed is not None
    assert (failed.index, str(failed.error)) == (4, "no")


def test_any_other_exception_blames_the_first_tile_that_was_not_given(context: JobContext) -> None:
    done, failed = running.compute(Numbers(misbehave=fails_at(5, ZeroDivisionError())), context, range(9), batch=3, is_over=never)
    assert failed is not None
    assert (done, failed.index) == ([0, 1, 2, 3, 4], 5)


def skips_two(index: int) -> Iterator[tuple[int, bytes]]:
    """A job type that forgets a tile."""
    if index != 2:
        yield index, b"t"


def test_a_tile_that_the_job_type_leaves_out_is_a_failure_of_that_tile(context: JobContext) -> None:
    done, failed = running.compute(Numbers(misbehave=skips_two), context, range(6), batch=3, is_over=never)
    assert failed is not None
    assert (done, failed.index, str(failed.error)) == ([0, 1], 2, "the job type gave nothing for tile 2")


def gives_a_stranger(index: int) -> Iterator[tuple[int, bytes]]:
    """A job type that gives a tile that it was not asked for."""
    yield index, b"t"
    yield 77, b"t"


def test_a_tile_that_was_not_asked_for_is_never_published(context: JobContext) -> None:
    _, failed = running.compute(Numbers(misbehave=gives_a_stranger), context, [0], batch=3, is_over=never)
    assert failed is not None
    assert "tile 77" in str(failed.error)
    assert list(context.tiles.finished(100)) == [0]


def test_a_deleted_job_is_gone_not_failed(context: JobContext) -> None:
    context.tiles.path.rmdir()
    with pytest.raises(FolderGone):
        running.compute(Numbers(), context, [0], batch=1, is_over=never)


def test_finishing_stops_at_its_time_and_goes_on_at_the_next_step_with_another_worker(context: JobContext) -> None:
    assert running.finish(Numbers(), context, step=0, is_over=lambda: True) == 1
    assert running.artifacts(context) == []
    assert running.finish(Numbers(), context, step=1, is_over=never) is None
    assert [found["name"] for found in running.artifacts(context)] == ["a.geojson"]
    assert not (context.results / ".parts").exists()


def test_finishing_again_gives_the_same_artifacts(context: JobContext) -> None:
    for _ in range(2):
        assert running.finish(Numbers(), context, step=0, is_over=never) is None
        (found,) = running.artifacts(context)
        assert found == {"name": "a.geojson", "size": 1, "sha256": hashlib.sha256(b"a").hexdigest()}


def test_a_last_step_that_runs_again_after_all_are_done_changes_nothing(context: JobContext) -> None:
    running.finish(Numbers(), context, step=0, is_over=never)
    assert running.finish(Numbers(), context, step=2, is_over=never) is None
    assert (context.results / "a.geojson").read_bytes() == b"a"


def test_a_part_is_not_seen_until_it_is_complete(context: JobContext) -> None:
    with pytest.raises(ZeroDivisionError), context.write_part("half") as file:
        file.write(b"begun")
        raise ZeroDivisionError
    assert not context.part_path("half").exists()
    assert list((context.results / ".parts").iterdir()) == []


def test_results_of_a_deleted_job_are_gone(context: JobContext) -> None:
    context.results.rmdir()
    with pytest.raises(FolderGone):
        running.finish(Numbers(), context, step=0, is_over=never)
    with pytest.raises(FolderGone):
        running.artifacts(context)


def test_hidden_files_and_folders_are_no_artifacts(context: JobContext) -> None:
    (context.results / ".parts").mkdir()
    (context.results / ".half").write_bytes(b"")
    (context.results / "cells.csv").write_bytes(b"id\n")
    assert [found["name"] for found in running.artifacts(context)] == ["cells.csv"]


def test_a_time_box_of_nothing_is_over_at_once() -> None:
    assert running.time_box(0.0)()
    assert not running.time_box(3600.0)()

"""Carrying out a bundle on a worker: plan, tiles, finish, each within its time box. Nothing here knows a queue or a database."""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from scheduling.jobtypes.base import JobContext, JobType, Plan, Step, TileFailed
from scheduling.tilestore.stage_times import EXPORT, PLAN, note
from scheduling.tilestore.tilefiles import FolderGone, MissingTile, TilesLost, thousands, to_ranges
from scheduling.worker import reuse

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TileError:
    """A tile raised."""

    index: int
    error: Exception


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What planning has found so far."""

    plan: Plan
    #: Tiles found finished by this part of the survey, as half-open ranges.
    finished: list[list[int]]
    #: Where the next part begins; None when all was looked at.
    next_step: int | None = None
    #: The artifacts are complete: those of the same work done before.
    is_cached: bool = False


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What lies on the disk when the artifacts are complete."""

    #: All tiles of the job, as half-open ranges.
    found: list[list[int]]
    #: Size of the artifacts and of the tiles that stay.
    disk_bytes: int


def never() -> bool:
    """A time box without an end."""
    return False


def survey(job_type: JobType, context: JobContext, *, step: int = 0, is_over: Callable[[], bool] = never) -> Survey:
    """Plan the job and list the tiles that are finished already, from `step` on until the time box is over.

    The first steps try to answer the job from the results of the same work. Raises FolderGone.
    """
    if not context.tiles.path.is_dir():
        raise FolderGone(str(context.tiles.path))
    earlier = context.spec.reuse
    first = reuse.steps(earlier)
    if earlier is not None and step < first:
        try:
            step = reuse.carry_out(context, earlier, step=step, is_over=is_over)
        except reuse.NotReusable as error:
            logger.info("computed again: %s", error, extra={"action": "not_reused", "job_id": context.spec.id})
            step = first
        else:
            plan, is_cached = reuse.plan_of(earlier), step == first
            return Survey(plan=plan, finished=_all(plan) if is_cached else [], next_step=None if is_cached else step, is_cached=is_cached)
    with context.work.stage(PLAN):
        plan = job_type.plan(context)
    _note(context, context.tiles.path)
    return _list_finished(plan, context, step - first, first, is_over)


def _list_finished(plan: Plan, context: JobContext, number: int, first: int, is_over: Callable[[], bool]) -> Survey:
    """A thousand tiles after the other, from `number` on."""
    found: list[int] = []
    while number < thousands(plan.tiles_total):
        found += context.tiles.finished_in(number, plan.tiles_total)
        number += 1
        if is_over():
            break
    is_done = number >= thousands(plan.tiles_total)
    return Survey(plan=plan, finished=to_ranges(found), next_step=None if is_done else first + number)


def compute(
    job_type: JobType, context: JobContext, tiles: Sequence[int], *, batch: int, is_over: Callable[[], bool]
) -> tuple[list[int], TileError | None]:
    """Compute tiles batch by batch until done, the time box is over or a tile raises: (finished indices, what raised).

    A tile that is finished already, by another job of the same work perhaps, is not computed again. Raises FolderGone when
    the job's folder was taken away, MissingTile when a part that planning has published is not there any more.
    """
    try:
        return _computed(job_type, context, tiles, batch, is_over)
    finally:
        _note(context, context.tiles.path)


def _computed(
    job_type: JobType, context: JobContext, tiles: Sequence[int], batch: int, is_over: Callable[[], bool]
) -> tuple[list[int], TileError | None]:
    done: list[int] = []
    for asked in _chunks(tiles, batch):
        ready = {index for index in asked if context.tiles.has(index)}
        done += sorted(ready)
        chunk = [index for index in asked if index not in ready]
        try:
            for index, payload in job_type.process(context, chunk) if chunk else ():
                if index not in chunk:
                    raise ValueError(f"the job type gave tile {index}, which it was not asked for")
                with context.work.stage("write"):
                    context.tiles.publish(index, payload)
                context.work.tiles += 1
                done.append(index)
            if missing := sorted(set(chunk) - set(done)):
                raise ValueError(f"the job type gave nothing for tile {missing[0]}")
        except TilesLost:
            raise
        except TileFailed as failed:
            return done, TileError(index=failed.index, error=failed)
        except Exception as error:  # noqa: BLE001  (whatever a job type raises is a failure of this tile, reported with its traceback)
            return done, TileError(index=next((i for i in chunk if i not in done), chunk[-1]), error=error)
        if is_over():
            break
    return done, None


def finish(job_type: JobType, context: JobContext, *, step: int, is_over: Callable[[], bool], tiles_total: int = 0) -> int | None:
    """Carry out the steps from `step` until the time box is over: the step to go on with, None when all are done.

    After the job type's own steps the finished tiles are verified, a thousand in each step, and packed if they stay. Raises
    MissingTile or CorruptTile when one is not there or damaged: then the job has to be planned again.
    """
    steps = [*job_type.finish(context), *_last_steps(context, tiles_total)]
    while step < len(steps):
        with context.work.stage(EXPORT):
            steps[step]()
        step += 1
        if is_over():
            break
    if step < len(steps):
        _note(context, context.part_path(""))
        return step
    shutil.rmtree(context.part_path(""), ignore_errors=True)
    return None


def _note(context: JobContext, folder: Path) -> None:
    """Of a job whose summary tells it."""
    if context.spec.slide is not None:
        note(folder, context.work)


def _last_steps(context: JobContext, tiles_total: int) -> list[Step]:
    step = context.tiles.pack if context.spec.keeps_tiles else context.tiles.check
    return [partial(step, number, tiles_total) for number in range(thousands(tiles_total))]


def kept(context: JobContext, tiles_total: int) -> Kept:
    """What is there when all steps of finishing are done. Raises MissingTile when tiles have gone since, FolderGone."""
    try:
        found = context.tiles.named(tiles_total)
        tiles_bytes = context.tiles.kept_bytes() if context.spec.keeps_tiles else 0
    except FileNotFoundError as error:
        raise FolderGone(str(context.tiles.path)) from error
    if found != _all(Plan(tiles_total=tiles_total)):
        raise MissingTile(f"only tiles {found} of {tiles_total} are there")
    return Kept(found=found, disk_bytes=tiles_bytes + artifacts_bytes(context))


def artifacts_bytes(context: JobContext) -> int:
    """Size of the published files."""
    return sum(file.stat().st_size for file in _published(context))


def artifacts(context: JobContext) -> list[dict[str, Any]]:
    """The published files of a job: name, size in bytes, SHA-256 (hex). Raises FolderGone."""
    return [{"name": file.name, "size": file.stat().st_size, "sha256": _sha256(file)} for file in _published(context)]


def _published(context: JobContext) -> list[Path]:
    try:
        return sorted(file for file in context.results.iterdir() if file.is_file() and not file.name.startswith("."))
    except FileNotFoundError as error:
        raise FolderGone(str(context.results)) from error


def _all(plan: Plan) -> list[list[int]]:
    return [[0, plan.tiles_total]] if plan.tiles_total else []


def time_box(seconds: float) -> Callable[[], bool]:
    """A function that says whether this many seconds have passed since now."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def _chunks(tiles: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(tiles), size):
        yield tiles[start : start + size]


def _sha256(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()

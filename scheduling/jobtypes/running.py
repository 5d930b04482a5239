"""Carrying out a bundle on a worker: plan, tiles, finish, each within its time box. Nothing here knows a queue or a database."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scheduling.jobtypes.base import JobContext, JobType, Plan, TileFailed
from scheduling.jobtypes.tilefiles import FolderGone, to_ranges


@dataclass(frozen=True, kw_only=True)
class TileError:
    """A tile raised."""

    index: int
    error: Exception


def survey(job_type: JobType, context: JobContext) -> tuple[Plan, list[list[int]]]:
    """Plan the job, and list the tiles that are finished already, as half-open ranges. Raises FolderGone."""
    if not context.tiles.path.is_dir():
        raise FolderGone(str(context.tiles.path))
    plan = job_type.plan(context)
    return plan, to_ranges(context.tiles.finished(plan.tiles_total))


def compute(
    job_type: JobType, context: JobContext, tiles: Sequence[int], *, batch: int, is_over: Callable[[], bool]
) -> tuple[list[int], TileError | None]:
    """Compute tiles batch by batch until done, the time box is over or a tile raises: (finished indices, what raised).

    Raises FolderGone when the job's folder was taken away.
    """
    done: list[int] = []
    for chunk in _chunks(tiles, batch):
        try:
            for index, payload in job_type.process(context, chunk):
                if index not in chunk:
                    raise ValueError(f"the job type gave tile {index}, which it was not asked for")
                context.tiles.publish(index, payload)
                done.append(index)
            if missing := sorted(set(chunk) - set(done)):
                raise ValueError(f"the job type gave nothing for tile {missing[0]}")
        except FolderGone:
            raise
        except TileFailed as failed:
            return done, TileError(index=failed.index, error=failed)
        except Exception as error:  # noqa: BLE001  (whatever a job type raises is a failure of this tile, reported with its traceback)
            return done, TileError(index=next((i for i in chunk if i not in done), chunk[-1]), error=error)
        if is_over():
            break
    return done, None


def finish(job_type: JobType, context: JobContext, *, step: int, is_over: Callable[[], bool]) -> int | None:
    """Carry out the steps from `step` until the time box is over: the step to go on with, None when all are done."""
    steps = job_type.finish(context)
    while step < len(steps):
        steps[step]()
        step += 1
        if is_over():
            break
    if step < len(steps):
        return step
    shutil.rmtree(context.part_path(""), ignore_errors=True)
    return None


def artifacts(context: JobContext) -> list[dict[str, Any]]:
    """The published files of a job: name, size in bytes, SHA-256 (hex). Raises FolderGone."""
    try:
        files = sorted(file for file in context.results.iterdir() if file.is_file() and not file.name.startswith("."))
    except FileNotFoundError as error:
        raise FolderGone(str(context.results)) from error
    return [{"name": file.name, "size": file.stat().st_size, "sha256": _sha256(file)} for file in files]


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

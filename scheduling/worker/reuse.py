"""The same work again: the artifacts of the job that did it are linked, each after its size and SHA-256 were verified.

Nothing is computed, no slide is opened. Whatever does not match makes the whole answer void: the job then goes on from the
finished tiles that are left.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scheduling.jobtypes.base import JobContext, Plan, ReuseRef
from scheduling.tilestore.records import FolderGone, TilesLost, opened


class NotReusable(Exception):
    """The earlier results are gone or damaged."""


def steps(reuse: ReuseRef | None) -> int:
    """How many steps there are: one for each artifact, and their publication."""
    return len(reuse.artifacts) + 1 if reuse else 0


def plan_of(reuse: ReuseRef) -> Plan:
    """What planning found out for the earlier job."""
    return Plan(tiles_total=reuse.tiles_total, warnings=reuse.warnings)


def carry_out(context: JobContext, reuse: ReuseRef, *, step: int, is_over: Callable[[], bool]) -> int:
    """Carry out the steps from `step` on until the time box is over: the step to go on with, `steps(reuse)` when all are done.

    Raises NotReusable, FolderGone.
    """
    while step < steps(reuse):
        if step < len(reuse.artifacts):
            _take(context, reuse, reuse.artifacts[step])
        else:
            _publish(context, reuse)
        step += 1
        if is_over():
            break
    return step


def _take(context: JobContext, reuse: ReuseRef, artifact: dict[str, Any]) -> None:
    """Link one artifact into the work folder, then verify what was linked: the other job may be deleted meanwhile."""
    source = context.settings.data_dir / "results" / reuse.job / str(artifact["name"])
    part = context.part_path(source.name)
    _make_folder(part.parent, context.results)
    part.unlink(missing_ok=True)
    try:
        _link(source, part)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise NotReusable(f"{source.name} of job {reuse.job} is not there") from error
    if not _is_artifact(part, artifact):
        part.unlink(missing_ok=True)
        raise NotReusable(f"{source.name} of job {reuse.job} is damaged")


def _publish(context: JobContext, reuse: ReuseRef) -> None:
    for artifact in reuse.artifacts:
        part, target = context.part_path(str(artifact["name"])), context.results / str(artifact["name"])
        # A part that is not there was published before, by this step's first run; only then is what is published taken.
        if not part.exists() and not _is_artifact(target, artifact):
            raise NotReusable(f"{target.name} was lost on the way")
        context.publish_artifact(target.name)
    shutil.rmtree(context.part_path(""), ignore_errors=True)


def _make_folder(folder: Path, results: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except FileNotFoundError as error:
        raise FolderGone(str(results)) from error


def _link(source: Path, target: Path) -> None:
    """One file under two names; where the file system cannot do that, a copy."""
    try:
        os.link(source, target, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target, follow_symlinks=False)


def _is_artifact(path: Path, artifact: dict[str, Any]) -> bool:
    """Whether the file is the one that was recorded; a link or a folder is not."""
    try:
        with opened(path) as (descriptor, size):
            return bool(size == artifact["size"] and _sha256(descriptor) == artifact["sha256"])
    except TilesLost:
        return False


def _sha256(descriptor: int) -> str:
    with open(descriptor, "rb", closefd=False) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

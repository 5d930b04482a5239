"""Rows and folders that have had their time, found beside the loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from scheduling.models import Annotation, IdempotencyKey, Job
from scheduling.store.specs import needed_digests

#: How long an Idempotency-Key gives its first answer again.
IDEMPOTENCY_KEPT = timedelta(hours=24)
BATCH = 500
UNNEEDED_AFTER_S = 60.0


def forget_old_keys(now: datetime) -> int:
    """Remove Idempotency-Keys that are too old to answer, some at a time; how many."""
    old = list(IdempotencyKey.objects.filter(created_at__lt=now - IDEMPOTENCY_KEPT).values_list("pk", flat=True)[:BATCH])
    return IdempotencyKey.objects.filter(pk__in=old).delete()[0] if old else 0


def unneeded_folders(data_dir: Path, now_s: float) -> Iterator[Path]:
    """Tile folders that no job needs any more, and results and annotations of what is no more, unchanged for a grace time.

    What a process had no time to remove: one that was killed after its commit, or a job whose tiles got another digest.
    """
    for names in _batches(data_dir / "tiles", now_s):
        yield from (data_dir / "tiles" / name for name in set(names) - needed_digests(names))
    for names in _batches(data_dir / "results", now_s):
        folders = {UUID(name): name for name in names if _is_uuid(name)}
        for gone in set(folders) - set(Job.objects.filter(uuid__in=folders).values_list("uuid", flat=True)):
            yield data_dir / "results" / folders[gone]
    yield from _unneeded_annotations(data_dir / "annotations", now_s)


def _unneeded_annotations(parent: Path, now_s: float) -> Iterator[Path]:
    """Files of annotations that were deleted, by themselves or with their slide."""
    for names in _batches(parent, now_s):
        files = {UUID(name.partition(".")[0]): name for name in names if _is_uuid(name.partition(".")[0])}
        kept = Annotation.objects.filter(pk__in=files, deleted_at=None, slide__deleted_at=None).values_list("pk", flat=True)
        yield from (parent / files[gone] for gone in set(files) - set(kept))


def _batches(parent: Path, now_s: float) -> Iterator[list[str]]:
    """Names of the folders in `parent` that are old enough, so many at a time."""
    names = [folder.name for folder in parent.glob("*") if _is_old(folder, now_s)]
    for start in range(0, len(names), BATCH):
        yield names[start : start + BATCH]


def _is_old(folder: Path, now_s: float) -> bool:
    with suppress(FileNotFoundError):
        return now_s - folder.stat().st_mtime > UNNEEDED_AFTER_S
    return False


def _is_uuid(name: str) -> bool:
    with suppress(ValueError):
        return str(UUID(name)) == name
    return False

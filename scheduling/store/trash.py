"""Deleted folders: renamed to DATA_DIR/trash at once, removed from disk after a grace time. No Django.

A worker that still holds a bundle of the job finds its folder gone, which it takes as the end of the job.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from uuid import UUID, uuid4

GRACE_S = 60.0


def discard(data_dir: Path, folder: Path) -> None:
    """Move a folder (or file) to the trash; nothing happens when it is not there."""
    trash = data_dir / "trash"
    trash.mkdir(parents=True, exist_ok=True)
    try:
        folder.rename(trash / f"{time.time():.0f}-{uuid4().hex}")
    except FileNotFoundError:
        return


def discard_results(data_dir: Path, job: UUID) -> None:
    """Discard the results of a job; other jobs that have linked them keep theirs."""
    discard(data_dir, data_dir / "results" / str(job))


def discard_tiles(data_dir: Path, digest: str) -> None:
    """Discard the finished tiles of a work that no job needs any more."""
    if digest:
        discard(data_dir, data_dir / "tiles" / digest)


def purge(data_dir: Path, now_s: float) -> int:
    """Remove from disk what was discarded more than the grace time before `now_s`; how many."""
    removed = 0
    for entry in (data_dir / "trash").glob("*"):
        stamp = entry.name.partition("-")[0]
        if stamp.isdigit() and now_s - int(stamp) > GRACE_S:
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
            removed += 1
    return removed

"""Deleted folders are out of the way at once and off the disk after the grace time."""

from __future__ import annotations

import time
from pathlib import Path
from uuid import UUID

from scheduling.store import trash

JOB = UUID(int=5)


def make(folder: Path) -> Path:
    """A folder with something in it."""
    folder.mkdir(parents=True)
    (folder / "file").write_text("x")
    return folder


def test_discarded_results_and_tiles_are_out_of_the_way_and_others_stay(tmp_path: Path) -> None:
    results, tiles = make(tmp_path / "results" / str(JOB)), make(tmp_path / "tiles" / "digest")
    kept = make(tmp_path / "tiles" / "another")
    trash.discard_results(tmp_path, JOB)
    trash.discard_tiles(tmp_path, "digest")
    assert (results.exists(), tiles.exists(), kept.exists()) == (False, False, True)
    assert len(list((tmp_path / "trash").iterdir())) == 2


def test_a_job_that_never_ran_has_nothing_to_discard(tmp_path: Path) -> None:
    tiles = make(tmp_path / "tiles" / "digest")
    trash.discard_tiles(tmp_path, "")
    trash.discard_results(tmp_path, JOB)
    assert tiles.exists()
    assert list((tmp_path / "trash").iterdir()) == []


def test_what_was_discarded_is_removed_after_the_grace_time(tmp_path: Path) -> None:
    trash.discard(tmp_path, make(tmp_path / "a"))
    (tmp_path / "b").write_text("a file")
    trash.discard(tmp_path, tmp_path / "b")
    (tmp_path / "trash" / "put-here-by-somebody").write_text("x")
    assert trash.purge(tmp_path, time.time()) == 0
    assert trash.purge(tmp_path, time.time() + trash.GRACE_S + 2) == 2
    assert [left.name for left in (tmp_path / "trash").iterdir()] == ["put-here-by-somebody"]


def test_there_is_nothing_to_purge_before_anything_was_discarded(tmp_path: Path) -> None:
    assert trash.purge(tmp_path, time.time()) == 0

"""A job that is killed near its end goes on from its finished tiles: what lies on the disk is neither lost nor computed again."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import settings

from scheduling.models import Event, Job, User
from scheduling.states import JobState
from scheduling.store import trash
from scheduling.tilestore.tilefiles import TileFolder
from tests.engine.harness import PROCESSES, Engine, Worker, submit

pytestmark = pytest.mark.engine

TILES, TILE_S = 2000, 0.02


@pytest.fixture(autouse=True)
def _tiles_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that they can be looked at when the job has ended."""
    monkeypatch.setattr(trash, "discard_tiles", lambda data_dir, digest: None)


def stamps(folder: TileFolder) -> dict[int, tuple[int, int]]:
    """Inode and time of each finished tile's file: another one would have others."""
    states = {index: Path(folder.tile_path(index)).stat() for index in folder.finished(TILES)}
    return {index: (state.st_ino, state.st_mtime_ns) for index, state in states.items()}


def is_nearly_done(engine: Engine) -> bool:
    """As the leader knows it: the database hears of it four times a second, and the rest may be done in between."""
    return any(entry.done >= TILES * 9 // 10 for entry in engine.loop._ledger.planned())


@pytest.mark.parametrize("scheduler_dies", [False, True], ids=["the worker", "the worker and the scheduler"])
def test_a_job_killed_at_nine_tenths_computes_no_finished_tile_again(
    engine: Engine, alice: User, worker: Worker, scheduler_dies: bool
) -> None:
    workflow = submit(alice, ("j", "b"), tiles=TILES, seconds_per_tile=TILE_S)
    engine.run_until(lambda: is_nearly_done(engine), "nine tenths of the tiles")
    under_way = engine.loop._ledger.under_way
    worker.kill()
    job = Job.objects.get(workflow=workflow)
    folder = TileFolder(settings.DATA_DIR / "tiles" / job.digest)
    before = stamps(folder)
    assert len(before) >= job.tiles_processed, "tiles were told of that are not on the disk"
    assert under_way < 3 * PROCESSES, "more than that could have been in the hands of the processes"

    if scheduler_dies:
        engine.lead()
    worker.start()
    engine.finish(workflow)

    job.refresh_from_db()
    assert (job.state, job.attempt, job.tiles_processed) == (JobState.SUCCEEDED, 1, TILES)
    after = stamps(folder)
    assert sorted(after) == list(range(TILES))
    assert {index: after[index] for index in before} == before, "finished tiles were written again"
    ended = Event.objects.get(type="job.finished", job_uuid=job.uuid)
    assert ended.data["tiles"] == TILES


def test_bundles_sent_after_the_kill_hold_only_what_was_not_finished(engine: Engine, alice: User, worker: Worker) -> None:
    workflow = submit(alice, ("j", "b"), tiles=TILES, seconds_per_tile=TILE_S)
    engine.run_until(lambda: is_nearly_done(engine), "nine tenths of the tiles")
    worker.kill()
    folder = TileFolder(settings.DATA_DIR / "tiles" / Job.objects.get(workflow=workflow).digest)
    before = set(folder.finished(TILES))
    engine.lead()
    worker.start()
    engine.finish(workflow)
    done = [tile for outcome in engine.inbox.delivered for tile in outcome["done"]]  # type: ignore[attr-defined]
    # What the dead leader had queued may be computed for nobody: the new one then finds it finished.
    assert set(done) <= set(range(TILES)) - before, "finished tiles were sent again"
    assert len(done) == len(set(done))

"""What a worker does with a parcel: bundle after bundle within one time box, and the artifacts at once where all tiles are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scheduling.jobtypes.base import JobSpec, WorkerSettings
from scheduling.jobtypes.simulated import Simulated
from scheduling.protocol.messages import Bundle, Kind, Outcome
from scheduling.worker import task
from scheduling.worker.task import Delivery, carry_out, run


@pytest.fixture
def settings(tmp_path: Path) -> WorkerSettings:
    """A worker whose simulated tiles take no time."""
    return WorkerSettings(data_dir=tmp_path, simulated_seconds_per_tile=0.0)


def bundle(settings: WorkerSettings, job: str = "job", **changes: Any) -> Bundle:
    """The one tile of a job whose folders are there, and the last."""
    for folder in ("tiles", "results"):
        (settings.data_dir / folder / job).mkdir(parents=True, exist_ok=True)
    parameters = changes.pop("parameters", {"tiles": 1})
    spec = JobSpec(id=job, owner="o", job_type="SEGMENT_CELLS", parameters=parameters, slide=None, digest=job)
    base = {"id": f"bundle-of-{job}", "kind": Kind.TILES, "term": 1, "epoch": 1, "spec": spec, "time_box_s": 5.0}
    return Bundle(**{**base, "tiles": (0,), "tiles_total": 1, "is_last": True, **changes})


def test_the_last_tiles_bring_the_artifacts_with_them(settings: WorkerSettings) -> None:
    outcome = run(bundle(settings), settings)
    assert (outcome.done, outcome.found, outcome.next_step) == ((0,), ((0, 1),), None)
    assert [artifact["name"] for artifact in outcome.artifacts or ()] == ["results.json"]
    assert {file.name for file in (settings.data_dir / "results" / "job").iterdir()} == {"results.json"}


def test_tiles_that_are_not_the_last_bring_none(settings: WorkerSettings) -> None:
    assert run(bundle(settings, is_last=False), settings).artifacts is None


def test_a_tile_that_fails_keeps_the_artifacts_from_being_made(settings: WorkerSettings) -> None:
    outcome = run(bundle(settings, parameters={"tiles": 1, "fail_at_tile": 0}), settings)
    assert (outcome.done, outcome.artifacts, outcome.failure and outcome.failure.tile) == ((), None, 0)


def test_a_time_box_that_is_over_leaves_the_artifacts_to_a_bundle_of_their_own(settings: WorkerSettings) -> None:
    outcome = run(bundle(settings, time_box_s=0.0), settings)
    assert (outcome.done, outcome.artifacts) == ((0,), None)


def test_finishing_that_raises_costs_the_tiles_nothing(settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Simulated, context: object) -> list[object]:
        raise OSError("no such luck")

    monkeypatch.setattr(Simulated, "finish", broken)
    outcome = run(bundle(settings), settings)
    assert (outcome.done, outcome.artifacts, outcome.failure) == ((0,), None, None)
    told = run(bundle(settings, kind=Kind.FINISH, tiles=(), is_last=False), settings)
    assert told.failure is not None
    assert told.failure.message == "no such luck"


def test_bundles_of_a_parcel_are_carried_out_in_order_and_stopped_ones_come_back(settings: WorkerSettings) -> None:
    orders = [bundle(settings, job) for job in ("a", "b", "c")]
    outcomes = list(carry_out(orders, settings, worker="w", stopped={"bundle-of-b"}))
    assert [(outcome.job, outcome.done) for outcome in outcomes] == [("a", (0,)), ("b", ()), ("c", (0,))]


def test_what_has_not_begun_when_the_time_box_is_over_comes_back_as_it_was(settings: WorkerSettings) -> None:
    orders = [bundle(settings, job, time_box_s=0.0) for job in ("a", "b")]
    outcomes = list(carry_out(orders, settings, worker="w", stopped=()))
    assert [(outcome.job, outcome.done, outcome.failure) for outcome in outcomes] == [("a", (0,), None), ("b", (), None)]
    assert not (settings.data_dir / "tiles" / "b" / "0").exists()


def test_outcomes_of_a_moment_are_delivered_together_and_late_ones_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    delivered: list[list[str]] = []
    monkeypatch.setattr(task, "deliver", lambda client, term, *outcomes: delivered.append([outcome.job for outcome in outcomes]))
    clock = iter([0.0, 0.001, 0.002, 0.5, 0.5, 0.501, 0.502])
    monkeypatch.setattr(task.time, "monotonic", lambda: next(clock))
    with Delivery(None, 1) as delivery:  # type: ignore[arg-type]
        for job in ("a", "b", "c", "d"):
            delivery.add(Outcome(bundle=job, job=job, epoch=1))
    assert delivered == [["a", "b", "c"], ["d"]]

"""Simulated jobs: the original's tiles, times, batches and results, and nothing more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from scheduling.jobtypes import simulated
from scheduling.jobtypes.base import JobContext, JobSpec, WorkerSettings
from scheduling.jobtypes.simulated import Simulated
from scheduling.worker import running


def job(data_dir: Path, job_type: str, seconds: float | None = None, **parameters: Any) -> JobContext:
    """A simulated job whose folders exist."""
    spec = JobSpec(id="job", owner="o", job_type=job_type, parameters=parameters, slide=None, digest="digest")
    context = JobContext(spec=spec, settings=WorkerSettings(data_dir=data_dir, simulated_seconds_per_tile=seconds))
    context.tiles.path.mkdir(parents=True, exist_ok=True)
    context.results.mkdir(parents=True, exist_ok=True)
    return context


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was slept, without sleeping."""
    naps: list[float] = []
    monkeypatch.setattr(simulated.time, "sleep", naps.append)
    return naps


@pytest.mark.parametrize(
    ("job_type", "tiles", "batch", "batch_s"), [("SEGMENT_CELLS", 20, 1, 0.3), ("TISSUE_MASK", 30, 1, 0.2), ("INSTANSEG_WSI", 60, 8, 0.15)]
)
def test_each_type_has_the_originals_tiles_batches_and_times(
    tmp_path: Path, slept: list[float], job_type: str, tiles: int, batch: int, batch_s: float
) -> None:
    context, kind = job(tmp_path, job_type), Simulated(job_type)
    plan = kind.plan(context)
    assert (plan.tiles_total, plan.batch) == (tiles, batch)
    assert plan.seconds_per_tile * batch == pytest.approx(batch_s)
    done, failed = running.compute(kind, context, range(tiles), batch=batch, is_over=lambda: False)
    assert (done, failed) == (list(range(tiles)), None)
    assert slept == [batch_s] * -(-tiles // batch)


@pytest.mark.parametrize("job_type", ["SEGMENT_CELLS", "INSTANSEG_WSI"])
def test_a_segmentation_writes_the_originals_results_exactly(tmp_path: Path, slept: list[float], job_type: str) -> None:
    context = job(tmp_path, job_type)
    assert running.finish(Simulated(job_type), context, step=0, is_over=lambda: False) is None
    (found,) = running.artifacts(context)
    assert found["name"] == "results.json"
    assert json.loads((context.results / "results.json").read_text()) == [
        {"id": 1, "polygon": [[1, 1], [2, 1], [2, 2], [1, 2]], "type": "cell"},
        {"id": 2, "polygon": [[3, 3], [4, 3], [4, 4], [3, 4]], "type": "cell"},
    ]


def test_a_mask_writes_nothing(tmp_path: Path) -> None:
    context = job(tmp_path, "TISSUE_MASK")
    assert running.finish(Simulated("TISSUE_MASK"), context, step=0, is_over=lambda: False) is None
    assert running.artifacts(context) == []


def test_the_merge_pause_of_two_seconds_is_cut_into_steps_so_that_a_cancel_acts_within_one(tmp_path: Path, slept: list[float]) -> None:
    step: int | None = 0
    visits = 0
    while step is not None:
        step = running.finish(Simulated("INSTANSEG_WSI"), job(tmp_path, "INSTANSEG_WSI"), step=step, is_over=lambda: True)
        visits += 1
    assert sum(slept) == 2.0
    assert max(slept) <= 0.25
    assert visits == len(slept) + 1


@pytest.mark.parametrize(
    ("setting", "parameters", "expected"),
    [
        (None, {}, 0.15),
        (0.02, {}, 8 * 0.02),
        (0.0, {}, 0.0),
        (None, {"seconds_per_tile": 0.5}, 8 * 0.5),
        (0.02, {"seconds_per_tile": 0.5}, 8 * 0.5),
        (0.02, {"seconds_per_tile": 0}, 0.0),
    ],
)
def test_a_batch_takes_the_jobs_own_time_before_the_setting_before_the_types(
    tmp_path: Path, slept: list[float], setting: float | None, parameters: dict[str, Any], expected: float
) -> None:
    context = job(tmp_path, "INSTANSEG_WSI", setting, **parameters)
    list(Simulated("INSTANSEG_WSI").process(context, range(8)))
    assert slept == [pytest.approx(expected)]
    assert Simulated("INSTANSEG_WSI").plan(context).seconds_per_tile * 8 == pytest.approx(expected)


@pytest.mark.parametrize("setting", [0.0, 0.5])
def test_a_setting_for_the_tiles_drops_the_merge_pause(tmp_path: Path, slept: list[float], setting: float) -> None:
    context = job(tmp_path, "INSTANSEG_WSI", setting)
    running.finish(Simulated("INSTANSEG_WSI"), context, step=0, is_over=lambda: False)
    assert slept == []
    assert (context.results / "results.json").exists()


def test_the_tile_that_is_to_fail_fails_and_those_before_it_in_its_batch_are_done(tmp_path: Path, slept: list[float]) -> None:
    context = job(tmp_path, "INSTANSEG_WSI", fail_at_tile=10)
    done, failed = running.compute(Simulated("INSTANSEG_WSI"), context, range(60), batch=8, is_over=lambda: False)
    assert failed is not None
    assert (done, failed.index) == (list(range(10)), 10)
    assert "fail_at_tile" in str(failed.error)


def test_the_number_of_tiles_is_known_from_the_parameters() -> None:
    assert simulated.tiles_total("SEGMENT_CELLS", {}) == 20
    assert simulated.tiles_total("SEGMENT_CELLS", {"tiles": 7}) == 7
    with pytest.raises(KeyError):
        simulated.tiles_total("OTHER", {})


@pytest.mark.parametrize(
    ("parameters", "is_valid"),
    [
        ({}, True),
        ({"tiles": 1}, True),
        ({"tiles": 1_000_000, "seconds_per_tile": 0, "fail_at_tile": 0}, True),
        ({"tiles": 0}, False),
        ({"tiles": 1_000_001}, False),
        ({"tiles": "20"}, False),
        ({"tiles": True}, False),
        ({"tiles": 2.5}, False),
        ({"tiles": None}, False),
        ({"seconds_per_tile": -0.1}, False),
        ({"fail_at_tile": -1}, False),
        ({"tile": 3}, False),
    ],
)
def test_the_schema_takes_what_can_be_simulated(parameters: dict[str, Any], is_valid: bool) -> None:
    assert Draft202012Validator(simulated.SIMULATED_PARAMETERS).is_valid(parameters) is is_valid

"""What travels as JSON arrives as it left."""

from __future__ import annotations

import json

import pytest

from scheduling.jobtypes.base import InputRef, JobSpec, Plan, SlideRef
from scheduling.protocol.messages import Bundle, Failure, Kind, Outcome, Planned

SLIDE = SlideRef(id="s", name="a.tiff", path="slides/a.tiff", fingerprint="f", mpp=0.25)
INPUT = InputRef(job="j", job_type="TISSUE_MASK", digest="d")


@pytest.mark.parametrize("slide", [None, SLIDE])
@pytest.mark.parametrize("inputs", [(), (INPUT,)])
def test_a_bundle_survives_the_wire(slide: SlideRef | None, inputs: tuple[InputRef, ...]) -> None:
    spec = JobSpec(id="j", owner="o", job_type="T", parameters={"tiles": 3}, slide=slide, inputs=inputs, digest="x")
    bundle = Bundle(id="b", kind=Kind.TILES, term=1, epoch=2, spec=spec, time_box_s=0.25, tiles=(1, 5), batch=8, tiles_total=9, step=2)
    assert Bundle.from_json(json.loads(json.dumps(bundle.to_json()))) == bundle


@pytest.mark.parametrize(
    "result",
    [
        {},
        {"done": (1, 2)},
        {"plan": Planned(tiles_total=9, batch=2, seconds_per_tile=0.1, warnings=("w",), finished=((0, 3), (5, 6)))},
        {"next_step": 3, "warnings": ("w",)},
        {"artifacts": ({"name": "a", "size": 1, "sha256": "00"},)},
        {"artifacts": ()},
        {"failure": Failure(message="m", traceback="t", tile=4, is_final=True)},
        {"is_gone": True},
        {"is_lost": True},
    ],
)
def test_an_outcome_survives_the_wire(result: dict[str, object]) -> None:
    outcome = Outcome(bundle="b", job="j", epoch=2, worker="w", seconds=0.5, **result)  # type: ignore[arg-type]
    assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome


@pytest.mark.parametrize("change", [{"tiles_total": -1}, {"batch": 0}])
def test_a_plan_that_cannot_be_carried_out_is_refused_where_it_is_made(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="cannot be carried out"):
        Plan(**{"tiles_total": 3, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize("finished", [((0, 10),), ((-1, 2),), ((3, 1),)])
def test_a_plan_that_names_tiles_which_are_not_there_is_refused(finished: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="9 tiles"):
        Planned(tiles_total=9, batch=1, seconds_per_tile=0.1, finished=finished)


def test_a_plan_of_more_tiles_than_the_scheduler_can_keep_is_refused_on_the_worker() -> None:
    with pytest.raises(ValueError, match="cannot be carried out"):
        Plan(tiles_total=10**12)


def test_texts_arrive_as_every_database_takes_them_and_bounded() -> None:
    failure = Failure(message="a\0b\udcff" + "x" * 200_000, tile=1)
    data = json.loads(json.dumps(Outcome(bundle="b", job="j", epoch=1, failure=failure, warnings=("w\0",)).to_json()))
    read = Outcome.from_json(data)
    assert read.failure is not None and read.failure.message.startswith("a�b\\udcffx")
    assert len(read.failure.message) < 101_000 and read.failure.tile == 1
    assert read.warnings == ("w�",)


def test_a_spec_travels_with_its_device_and_one_without_means_the_cpu() -> None:
    spec = JobSpec(id="job", owner="alice", job_type="INSTANSEG_WSI", parameters={}, slide=None, device="gpu")
    assert JobSpec.from_json(spec.to_json()).device == "gpu"
    old = {name: value for name, value in spec.to_json().items() if name != "device"}
    assert JobSpec.from_json(old).device == "cpu"

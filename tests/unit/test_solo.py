"""A worker whose bundles run in its own process: what takes too long, or holds up a stop, ends the process."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from scheduling.engine.messages import Bundle, Kind
from scheduling.jobtypes.base import JobSpec
from scheduling.solo import STOP_S, STOPPED, STUCK, Watch

SPEC = JobSpec(id="job", owner="alice", job_type="INSTANSEG_WSI", parameters={}, slide=None, device="gpu")
BUNDLE = Bundle(id="bundle", kind=Kind.TILES, term=1, epoch=2, spec=SPEC, time_box_s=2.0, limit_s=30.0, tiles=(0, 1))


@dataclass
class World:
    """A watch on a clock of the test's, and what came of it."""

    now: float = 100.0
    is_stopping: bool = False
    heard: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.watch = Watch(
            give_up=lambda bundle: self.heard.append(f"lost {bundle.id}"),
            leave=lambda: self.heard.append("left"),
            exit=lambda code: self.heard.append(f"exit {code}"),
            clock=lambda: self.now,
            is_stopping=lambda: self.is_stopping,
        )

    def after(self, seconds: float) -> list[str]:
        """What it has done when so many seconds have passed, looked at all the time."""
        for _ in range(round(seconds * 4)):
            self.now += 0.25
            self.watch.look()
            if self.heard:
                break
        return self.heard


@pytest.fixture
def world() -> World:
    """An idle worker."""
    return World()


def test_an_idle_worker_is_left_alone_and_stops_by_itself(world: World) -> None:
    assert world.after(3600) == []
    world.is_stopping = True
    assert world.after(60) == []


def test_bundles_within_their_limit_are_left_alone(world: World) -> None:
    for _ in range(5):
        world.watch.begin(BUNDLE.to_json())
        assert world.after(29) == []
        world.watch.end()


def test_a_bundle_beyond_its_limit_is_reported_lost_and_ends_the_process(world: World) -> None:
    world.watch.begin(BUNDLE.to_json())
    assert world.after(29.9) == []
    assert world.after(1) == ["lost bundle", "left", f"exit {STUCK}"]


def test_a_stop_waits_for_the_bundle_for_a_while_and_then_drops_it_uncharged(world: World) -> None:
    world.watch.begin(BUNDLE.to_json())
    assert world.after(5) == []
    world.is_stopping = True
    assert world.after(STOP_S) == []
    assert world.after(1) == ["left", f"exit {STOPPED}"]
    assert STOP_S < 15


def test_a_spec_travels_with_its_device_and_one_without_means_the_cpu() -> None:
    assert JobSpec.from_json(SPEC.to_json()).device == "gpu"
    old = {name: value for name, value in SPEC.to_json().items() if name != "device"}
    assert JobSpec.from_json(old).device == "cpu"

"""The watch over a worker's processes: what it looks at, what a late look counts, and whom it has ended."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import pytest

from scheduling.worker.watching.slots import Carried
from scheduling.worker.watching.stillness import UNWANTED_S, Verdict, Vitals
from scheduling.worker.watching.watch import LOOK_S, STOPPED_S, YOUNG_S, Watch


@dataclass
class World:
    """A watch on a clock of the test's, over one process that does nothing."""

    now: float = 100.0
    carried: list[Carried] = field(default_factory=list)
    unwanted: set[str] = field(default_factory=set)
    looked_at: list[int] = field(default_factory=list)
    ended: list[tuple[str, Verdict]] = field(default_factory=list)
    is_gone: bool = False

    def __post_init__(self) -> None:
        self.watch = Watch(
            carried=lambda: list(self.carried),
            measure=self._measure,
            unwanted=lambda _: self.unwanted,
            end=lambda one, verdict: self.ended.append((one.bundle, verdict)),
            clock=lambda: self.now,
        )

    def _measure(self, pids: Collection[int]) -> dict[int, Vitals]:
        self.looked_at += pids
        return {} if self.is_gone else {pid: Vitals(cpu_s=5.0) for pid in pids}

    def begin(self, bundle: str, limit_s: float = 30.0) -> None:
        """The process begins a bundle."""
        self.carried = [Carried(pid=77, began_at=self.now, bundle=bundle, parcel=bundle, job="job", epoch=2, term=1, limit_s=limit_s)]

    def after(self, seconds: float, every_s: float = LOOK_S) -> list[tuple[str, Verdict]]:
        """What was ended when so many seconds have passed, looked at all the time."""
        for _ in range(round(seconds / every_s)):
            self.now += every_s
            self.watch.look()
            if self.ended:
                break
        return self.ended


@pytest.fixture
def world() -> World:
    """An idle worker."""
    return World()


def test_an_idle_worker_is_left_alone(world: World) -> None:
    assert world.after(3600) == []
    assert world.looked_at == []


def test_bundles_that_end_soon_are_not_measured(world: World) -> None:
    for number in range(100):
        world.begin(f"bundle-{number}")
        world.after(YOUNG_S - LOOK_S)
    assert world.looked_at == []


def test_bundles_within_their_limit_are_left_alone(world: World) -> None:
    for number in range(5):
        world.begin(f"bundle-{number}")
        assert world.after(29) == []


def test_a_bundle_whose_process_does_nothing_for_its_limit_is_ended(world: World) -> None:
    world.begin("bundle")
    assert world.after(30) == []
    assert world.after(5) == [("bundle", Verdict.STILL)]


def test_looks_that_come_late_count_as_one_in_time(world: World) -> None:
    world.begin("bundle")
    assert world.after(1000, every_s=20.0) == [], "fifty looks, twenty seconds apart, are no thirty seconds of looking"


def test_a_process_that_is_gone_is_for_its_pool_to_notice(world: World) -> None:
    world.begin("bundle")
    world.is_gone = True
    assert world.after(3600) == []


def test_a_process_that_is_stopped_between_two_bundles_is_ended_since_it_would_begin_no_other(world: World) -> None:
    idle = Carried(pid=78, began_at=0.0, bundle="", parcel="", job="", epoch=0, term=0, limit_s=0.0)
    world.watch.idle = lambda: [idle]
    world.watch.is_stopped = lambda pid: False
    assert world.after(3600) == []
    world.watch.is_stopped = lambda pid: pid == 78
    assert world.after(STOPPED_S) == []
    assert world.after(1) == [("", Verdict.STOPPED)]


def test_what_nobody_wants_any_more_is_given_some_time(world: World) -> None:
    world.begin("bundle")
    world.after(5)
    world.unwanted = {"bundle"}
    assert world.after(UNWANTED_S) == []
    assert world.after(1) == [("bundle", Verdict.UNWANTED)]

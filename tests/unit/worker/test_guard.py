"""What a worker does about a bundle that is stuck or that nobody wants: reported or not, and which process ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator
from contextlib import suppress

import psutil
import pytest
from redis import ConnectionError as Away

from scheduling.protocol.messages import Outcome
from scheduling.protocol.stops import ENDED, stop_key
from scheduling.worker import guard
from scheduling.worker.guard import NO_ANSWER, STOPPED, STUCK, Guard, SoloGuard
from scheduling.worker.watching.slots import Carried, Slots, _packed
from scheduling.worker.watching.stillness import Verdict
from tests.support.waiting import PATIENCE_S
from tests.unit.worker.watching.test_slots import BUNDLE

ONE = Carried.of(BUNDLE)


class Keys:
    """As much of Redis as a guard asks."""

    def __init__(self, **values: bytes) -> None:
        self.values, self.is_away = values, False

    def mget(self, names: list[str]) -> list[bytes | None]:
        """The values of these keys."""
        if self.is_away:
            raise Away
        return [self.values.get(name) for name in names]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Outcome]:
    """What the leader is told."""
    outcomes: list[Outcome] = []
    monkeypatch.setattr(guard, "deliver", lambda _, term, outcome, within_s: outcomes.append(outcome))
    return outcomes


@pytest.fixture
def child() -> Iterator[psutil.Popen]:
    """A process of this one that hangs."""
    with psutil.Popen([sys.executable, "-c", "import signal;signal.pause()"]) as process:
        yield process
        with suppress(psutil.NoSuchProcess):
            process.kill()


def carried_by(child: psutil.Popen) -> tuple[Slots, Carried]:
    """A bundle that hangs in this process."""
    shared, one = Slots(1), Carried(**{**vars(ONE), "pid": child.pid})
    shared._write(0, _packed(one))
    return shared, one


@pytest.mark.parametrize(
    ("verdict", "message", "refusal"),
    [
        (Verdict.STILL, "its process did nothing for 12 s", ""),
        (Verdict.BURNT, "it came to no end in 375 s of computing", ""),
        (Verdict.DISK, NO_ANSWER, NO_ANSWER),
    ],
)
def test_a_bundle_that_is_charged_with_something_is_reported(
    told: list[Outcome], child: psutil.Popen, verdict: Verdict, message: str, refusal: str
) -> None:
    shared, one = carried_by(child)
    watcher = Guard(slots=shared, redis=Keys())  # type: ignore[arg-type]
    watcher.end(one, verdict)
    assert child.wait(timeout=PATIENCE_S) != 0
    (outcome,) = told
    assert (outcome.bundle, outcome.job, outcome.epoch, outcome.is_lost) == (BUNDLE.id, BUNDLE.spec.id, 4, True)
    assert outcome.failure is not None
    assert (outcome.failure.message, outcome.failure.refusal) == (message, refusal)
    assert watcher.ended == {BUNDLE.id}


@pytest.mark.parametrize("verdict", [Verdict.STOPPED, Verdict.UNWANTED])
def test_a_bundle_that_can_do_nothing_for_it_is_charged_with_nothing(told: list[Outcome], child: psutil.Popen, verdict: Verdict) -> None:
    shared, one = carried_by(child)
    Guard(slots=shared, redis=Keys()).end(one, verdict)  # type: ignore[arg-type]
    assert child.wait(timeout=PATIENCE_S) != 0
    assert told == []


def test_a_process_that_has_ended_its_bundle_meanwhile_lives_on(told: list[Outcome], child: psutil.Popen) -> None:
    _, one = carried_by(child)
    Guard(slots=Slots(1), redis=Keys()).end(one, Verdict.STILL)  # type: ignore[arg-type]
    assert child.poll() is None
    assert told == []


def test_a_process_of_somebody_else_is_left_alone(told: list[Outcome], child: psutil.Popen) -> None:
    """The number of a process that has gone may be another's by now."""
    shared, one = carried_by(child)
    Guard(slots=shared, redis=Keys()).end(Carried(**{**vars(one), "pid": os.getppid()}), Verdict.STILL)  # type: ignore[arg-type]
    assert psutil.pid_exists(os.getppid())
    assert told == []


def test_bundles_of_jobs_that_have_ended_are_unwanted_and_without_redis_all_are_wanted() -> None:
    key = stop_key(ONE.job, ONE.epoch)
    keys = Keys(**{key: ENDED})
    watcher = Guard(slots=Slots(1), redis=keys)  # type: ignore[arg-type]
    assert watcher.unwanted([ONE]) == {BUNDLE.id}
    keys.values[key] = b"1"
    assert not watcher.unwanted([ONE]), "a job that is taken back keeps the tile under way"
    keys.values[key], keys.is_away = ENDED, True
    assert not watcher.unwanted([ONE])


def solo(heard: list[str], *, is_stopping: bool = False) -> SoloGuard:
    """A guard of a worker that is its own child, on trial."""
    return SoloGuard(
        slots=Slots(1),
        redis=Keys(),  # type: ignore[arg-type]
        leave=lambda: heard.append("left"),
        exit=lambda code: heard.append(f"exit {code}"),
        is_stopping=lambda: is_stopping,
    )


def test_a_worker_that_is_its_own_child_reports_a_stuck_bundle_and_ends_itself(told: list[Outcome]) -> None:
    heard: list[str] = []
    solo(heard).end(ONE, Verdict.STILL)
    assert heard == ["left", f"exit {STUCK}"]
    assert [outcome.bundle for outcome in told] == [BUNDLE.id]


def test_a_stop_drops_the_bundle_uncharged(told: list[Outcome]) -> None:
    heard: list[str] = []
    stopping: Collection[str] = solo(heard, is_stopping=True).unwanted([ONE])
    assert stopping == {BUNDLE.id}
    assert not solo(heard).unwanted([ONE])
    solo(heard).end(ONE, Verdict.UNWANTED)
    assert (heard, told) == (["left", f"exit {STOPPED}"], [])

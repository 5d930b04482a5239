"""The process monitor's own rules, on a clock and a reactor of the test's: when it starts again, how it stops."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from twisted.internet.error import ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from workflowsite import monitor as monitor_module
from workflowsite.monitor import Monitor, launched
from workflowsite.programs import Program, StopStep


@dataclass
class Transport:
    """A process that never ran."""

    pid: int
    protocol: Any = None


class FakeReactor(Clock):
    """Spawns nothing and remembers everything."""

    def __init__(self) -> None:
        super().__init__()
        self.spawned: list[Transport] = []

    def spawnProcess(self, protocol: Any, executable: str, args: list[str], **options: Any) -> None:
        transport = Transport(1000 + len(self.spawned), protocol)
        protocol.transport = transport
        self.spawned.append(transport)
        protocol.makeConnection(transport)

    def die(self) -> None:
        """The process spawned last ends."""
        protocol = self.spawned[-1].protocol
        reason = Failure(ProcessTerminated(1))
        protocol.processExited(reason)
        protocol.processEnded(reason)


@dataclass
class World:
    """A running monitor with one program."""

    reactor: FakeReactor = field(default_factory=FakeReactor)
    signals: list[tuple[int, signal.Signals]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.monitor = Monitor({}, {3: 9}, reactor=self.reactor)
        self.monitor.startService()
        self.monitor.add(Program("worker", ("celery",), (StopStep(signal.SIGTERM, 8), StopStep(signal.SIGQUIT, 1))))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World()
    monkeypatch.setattr(monitor_module, "signal_process", lambda pid, number: made.signals.append((pid, number)))
    monkeypatch.setattr(monitor_module, "kill_group", lambda pid: None)
    yield made


def restart_delay(world: World) -> float:
    """Seconds from a death to the next start."""
    starts, died = len(world.reactor.spawned), world.reactor.seconds()
    world.reactor.die()
    while len(world.reactor.spawned) == starts:
        world.reactor.advance(0.25)
    return world.reactor.seconds() - died


def test_a_program_that_keeps_dying_is_started_again_after_half_a_second_doubling_to_five(world: World) -> None:
    assert [restart_delay(world) for _ in range(7)] == [0.5, 1, 2, 4, 5, 5, 5]


def test_after_thirty_seconds_alive_the_delay_is_half_a_second_again(world: World) -> None:
    for _ in range(4):
        restart_delay(world)
    world.reactor.advance(30)
    assert [restart_delay(world) for _ in range(2)] == [0.5, 1]


def test_a_stop_sends_each_signal_in_its_time_and_kills_last(world: World) -> None:
    gone = world.monitor.remove("worker")
    assert world.signals == [(1000, signal.SIGTERM)]
    world.reactor.advance(8)
    world.reactor.advance(1)
    assert [number for _, number in world.signals] == [signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL]
    assert not gone.called
    world.reactor.die()
    assert gone.called


def test_a_stopped_program_is_not_started_again(world: World) -> None:
    world.monitor.remove("worker")
    world.reactor.die()
    world.reactor.advance(60)
    assert len(world.reactor.spawned) == 1
    assert [number for _, number in world.signals] == [signal.SIGTERM]


def test_a_program_removed_while_it_waits_for_its_next_start_stays_away(world: World) -> None:
    world.reactor.die()
    assert world.monitor.remove("worker").called
    world.reactor.advance(60)
    assert len(world.reactor.spawned) == 1


def test_hastening_kills_what_is_being_stopped_and_what_is_stopped_later(world: World) -> None:
    world.monitor.add(Program("redis", ("redis-server",), (StopStep(signal.SIGTERM, 1),)))
    world.monitor.remove("worker")
    world.monitor.hasten()
    world.monitor.remove("redis")
    assert world.signals == [(1000, signal.SIGTERM), (1000, signal.SIGKILL), (1001, signal.SIGKILL)]


def test_a_line_too_long_for_the_buffer_is_logged_in_pieces_and_the_stream_stays_open(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    protocol = world.reactor.spawned[0].protocol
    with caplog.at_level("INFO"):
        protocol.outReceived(b"Z" * 40_000)
        protocol.outReceived(b"\nnext\n")
    lines = [record.getMessage() for record in caplog.records]
    assert sum(line.count("Z") for line in lines) == 40_000
    assert lines[-1] == "next"


def test_every_program_is_started_through_the_launcher() -> None:
    assert launched(["redis-server", "--port", "0"])[1:3] == ["-m", "scheduling.launch"]
    assert launched(["redis-server", "--port", "0"])[-3:] == ["redis-server", "--port", "0"]

"""`make run` from its first check to its last process: start in order, say Ready, keep alive, stop in order."""

from __future__ import annotations

import http.client
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults, succeed
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThread

from scheduling.env import Environment, without_password
from scheduling.instanseg import devices
from workflowsite import collected, embedded_redis, output, programs
from workflowsite.monitor import Monitor
from workflowsite.preflight import LOCK_NAME, CannotStart, check_database, check_port, make_folders, take_lock
from workflowsite.programs import MANAGE, STOP_ORDER, Program
from workflowsite.steps import Step

#: The embedded Redis answers within milliseconds; one elsewhere may be starting beside us.
REDIS_ANSWER_S = 5.0
NOTE_AFTER_S = 20.0
#: A run whose `make` is gone, killed perhaps, may be in the way of the next one.
ABANDONED_S = 2.0
PARENT_EVERY_S = 0.5
READY_EVERY_S = 0.05
SAMPLE = "sample-he.tif"


def run(env: Environment, reactor: Any, parent: int | None = None) -> int:
    """Run until stopped, or until the process `parent` is gone; the exit code. Raises CannotStart or NoRedis before anything has been started."""
    make_folders(env)
    mark, is_first = uuid4().hex, not (env.data_dir / LOCK_NAME).exists()
    lock = take_lock(env, mark, parent)
    check_port(env)
    check_database(env)
    redis = None if env.redis_url_given else programs.redis_program(env)
    output.begin(env.data_dir / "logs", [name for names in STOP_ORDER for name in names])
    session = Session(env, redis, Run(lock=lock, mark=mark, is_first=is_first, parent=parent), reactor)
    reactor.callWhenRunning(session.begin)
    reactor.run()
    return session.exit_code


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run is known by: the descriptor of its lock, the mark of its programs, the process it ends with."""

    lock: int
    mark: str
    #: DATA_DIR is new.
    is_first: bool
    parent: int | None = None


class Session:
    """The programs of one run. `exit_code` is 0 after a stop that was asked for, 1 when the start failed."""

    def __init__(self, env: Environment, redis: Program | None, this: Run, reactor: Any) -> None:
        self.exit_code = 0
        self._env = env
        self._redis = redis
        self._run = this
        self._reactor = reactor
        self._environ = programs.child_environment(env, os.environ, this.mark)
        # Programs wait at one end until the other is closed.
        prepared, self._preparing = os.pipe()
        self._monitor = Monitor(self._environ, {programs.LOCK_FD: this.lock, programs.PREPARED_FD: prepared}, reactor)
        self._steps: list[Step] = []
        self._starting: Deferred[None] = Deferred()
        self._is_stopping = False
        self._last_answer = ""

    def begin(self) -> None:
        """Take the signals and start; called when the reactor runs, whose own handlers these replace."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # started under nohup
            signal.signal(number, lambda *_: self._reactor.callFromThread(self._signalled))
        if self._run.parent is not None:
            LoopingCall(self._look_at_parent).start(PARENT_EVERY_S)
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._failed)

    def _signalled(self) -> None:
        if self._is_stopping:
            self._monitor.hasten()
        else:
            self._say("stopping")
            self._stop()

    def _look_at_parent(self) -> None:
        if os.getppid() != self._run.parent and not self._is_stopping:
            self._say("stopping: the process that started this one is gone")
            self._stop()
            self._reactor.callLater(ABANDONED_S, self._monitor.hasten)

    def _failed(self, failure: Any) -> None:
        if failure.check(CancelledError):
            return
        self.exit_code = 1
        message = failure.getErrorMessage() if failure.check(CannotStart) else failure.getTraceback()
        print(f"error: {message}", file=sys.stderr, flush=True)  # noqa: T201
        if not self._is_stopping:
            self._stop()

    # ---- start ------------------------------------------------------------------------------------------------------
    async def _start(self) -> None:
        """Everything loads at once; what needs the database waits where it would touch it (`prepared.py`)."""
        self._monitor.startService()
        sample = self._write_sample()
        await self._start_redis()
        preparing = self._together(sample, self._prepare(), Deferred.fromCoroutine(self._collect_static()))
        self._monitor.add(programs.web_program(self._env))
        self._monitor.add(programs.scheduler_program())
        self._monitor.add(programs.worker_program(self._env))
        gpu = Deferred.fromCoroutine(self._add_gpu_worker())
        await preparing
        os.close(self._preparing)
        if self._env.gpu_worker:
            await gpu
        else:
            gpu.addErrback(self._failed)
        await self._until_ready()
        self._say(f"Ready: http://{self._env.display_host}:{self._env.port}/ui")

    async def _start_redis(self) -> None:
        if self._redis:
            self._monitor.add(self._redis)
        if not await self._until(lambda: embedded_redis.answers(self._env.redis_url), REDIS_ANSWER_S):
            where = (
                f"{self._redis.command[0]} (see {self._env.data_dir}/logs/redis.log)"
                if self._redis
                else f"REDIS_URL={without_password(self._env.redis_url)!r}"
            )
            raise CannotStart(f"{where}: Redis does not answer")

    def _write_sample(self) -> Deferred[None]:
        """In a folder that is new, so that the demo finds it written. Where the database is not new, nobody asks for it."""
        sample = self._env.data_dir / "slides" / SAMPLE
        if not self._env.demo or not self._run.is_first:
            return succeed(None)
        return self._step("sample", sys.executable, "-m", "scheduling.slides.synthetic.sample", str(sample))

    def _prepare(self) -> Deferred[None]:
        return self._step("prepare", *MANAGE, "prepare", *(["--demo"] if self._env.demo else []))

    async def _collect_static(self) -> None:
        target = self._env.data_dir / "static"
        try:
            if await deferToThread(collected.restore, target):
                return
        except OSError as error:
            raise CannotStart(f"collectstatic failed: {error}") from error
        await self._step("collectstatic", *MANAGE, "collectstatic", "--noinput", "-v", "0")
        await deferToThread(collected.keep, target)

    async def _add_gpu_worker(self) -> None:
        """The worker of the queue gpu, where it is wanted. Loading torch takes seconds: Ready waits for it only where there must be one.

        Raises CannotStart when there must be one and torch has no device.
        """
        device, is_wanted = self._env.torch_device, self._env.gpu_worker
        if is_wanted is None:
            is_wanted = device != "cpu" and devices.has_torch()
        if not is_wanted:
            return
        if device != "cpu" and not await self._sees(device):
            return
        if not self._is_stopping:
            self._monitor.add(programs.gpu_worker_program(self._env))

    async def _sees(self, device: str) -> bool:
        """Whether torch sees the device; logs/device.log says why not. Raises CannotStart when it must."""
        try:
            await self._step("device", sys.executable, "-m", "scheduling.instanseg.devices", device)
        except CannotStart as error:
            if self._env.gpu_worker:
                raise CannotStart(f"GPU_WORKER='1': {error}") from error
            return False
        return True

    def _step(self, name: str, *command: str) -> Deferred[None]:
        step = Step(name, command, self._environ, self._env.data_dir / "logs", self._run.lock)
        self._steps.append(step)
        return step.start(self._reactor)

    @staticmethod
    async def _together(*steps: Deferred[None]) -> None:
        """Wait for all; raise what the first of them to fail raised."""
        try:
            await gatherResults(steps, consumeErrors=True)
        except FirstError as error:
            raise error.subFailure.value from None

    async def _until(self, predicate: Callable[[], bool], within_s: float, every_s: float = 0.05) -> bool:
        deadline = self._reactor.seconds() + within_s
        while not await deferToThread(predicate):
            if self._reactor.seconds() > deadline:
                return False
            await deferLater(self._reactor, every_s)
        return True

    async def _until_ready(self) -> None:
        """Poll /readyz; now and then say what it still waits for. A program that does not come up is started again meanwhile."""
        while not await self._until(self._is_ready, NOTE_AFTER_S, every_s=READY_EVERY_S):
            self._say(f"not ready yet: {self._last_answer}")

    def _is_ready(self) -> bool:
        host = next((name.lstrip(".") for name in self._env.allowed_hosts if name != "*"), self._env.display_host)
        wire = http.client.HTTPConnection(self._env.display_host.strip("[]"), self._env.port, timeout=5)
        try:
            wire.request("GET", "/readyz", headers={"Host": host})
            answer = wire.getresponse()
            self._last_answer = f"/readyz answers {answer.status} {answer.read(500).decode(errors='replace')}"
        except (OSError, http.client.HTTPException) as error:
            self._last_answer = f"the web server does not answer ({error})"
            return False
        finally:
            wire.close()
        return answer.status == http.client.OK

    # ---- stop -------------------------------------------------------------------------------------------------------
    def _stop(self) -> None:
        self._is_stopping = True
        self._starting.cancel()
        stopping = Deferred.fromCoroutine(self._stop_all())
        stopping.addErrback(self._failed)
        stopping.addBoth(lambda _: self._reactor.stop())

    async def _stop_all(self) -> None:
        for step in self._steps:
            await step.stop()
        for names in STOP_ORDER:
            await gatherResults([self._monitor.remove(name) for name in names])
        self._monitor.stopService()

    @staticmethod
    def _say(line: str) -> None:
        print(line, flush=True)  # noqa: T201

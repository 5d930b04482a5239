"""What a Celery worker's parent process does for the engine: heartbeats that name its bundles, and lost children reported.

Connected by signals when `worker.app` loads it. The parent does no image work, so a heartbeat is never late for it; where it
does (the solo pool), image work lets other threads run.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any

from billiard.exceptions import WorkerLostError
from celery import signals
from celery.concurrency.solo import TaskPool as SoloPool
from celery.worker import state as worker_state
from redis import Redis, RedisError

from scheduling import env
from scheduling.instanseg import devices, threads
from scheduling.protocol import presence
from scheduling.protocol.inbox import connect
from scheduling.protocol.messages import TASK, Failure
from scheduling.version import code_version
from scheduling.worker.guard import Guard, SoloGuard, report_lost
from scheduling.worker.memory import keep_freed
from scheduling.worker.watching import slots
from scheduling.worker.watching.forgotten import Forgotten
from scheduling.worker.watching.vitals import count_apart

logger = logging.getLogger(__name__)


class HeartbeatThread(threading.Thread):
    """Says every second that this worker lives, and what it holds."""

    def __init__(self, name: str, queues: tuple[str, ...], processes: int) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self.guard: Guard | None = None
        self._forgotten, self._beaten_at = Forgotten(), time.monotonic()
        self._worker, self._queues, self._processes = name, queues, processes
        self._redis: Redis = connect(env.read().redis_url, timeout_s=2)
        self._ended = threading.Event()
        self._parent = os.getpid()

    def run(self) -> None:
        """Beat until the worker ends."""
        while not self._ended.wait(presence.BEAT_S):
            count_apart()
            self.beat()

    def beat(self) -> None:
        """One heartbeat; Redis away is not an error here, the next beat comes."""
        try:
            presence.beat(self._redis, self._heartbeat())
        except RedisError as error:
            logger.warning("no heartbeat: %s", error, extra={"action": "heartbeat_missed"})

    def end(self) -> None:
        """Say that the worker has ended."""
        self._ended.set()
        try:
            presence.leave(self._redis, self._worker)
        except RedisError as error:
            logger.info("leaving without a word: %s", error, extra={"action": "leave_missed"})

    def _heartbeat(self) -> presence.Heartbeat:
        held = self._held()
        asked = {worker_state.should_stop, worker_state.should_terminate}  # each None until a signal sets an exit code
        state = "stopping" if asked != {None} else "running" if held else "idle"
        return presence.Heartbeat(
            name=self._worker,
            queues=self._queues,
            processes=self._processes,
            state=state,
            bundles=held,
            version=code_version(),
            heartbeat=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        )

    def _held(self) -> tuple[str, ...]:
        """Bundles received and not ended, but for those of which nothing will come: named by nobody, they are sent again."""
        held = [request.id for request in list(worker_state.reserved_requests)]
        if self.guard is None:
            return tuple(held)
        carried = {one.parcel for one in self.guard.slots.carried()}
        now, before = time.monotonic(), self._beaten_at
        self._beaten_at = now
        left = self._forgotten.look(held, carried, free=self._processes - len(carried), passed_s=now - before)
        return tuple(parcel for parcel in held if parcel not in left | self.guard.ended)


_threads: list[HeartbeatThread] = []
_GPU = "gpu"


@signals.worker_init.connect
def _check_device(sender: Any, **_: Any) -> None:
    """Before it takes anything: a worker of the queue gpu must have a device, and its bundles must run where that is opened."""
    if _GPU not in sender.app.amqp.queues.consume_from:
        return
    if not _is_solo(sender):
        sys.exit("error: a worker of the queue gpu needs --pool solo: a device that a process has opened is of no use to its children")
    device = env.read().torch_device
    # With `cpu` it is there to try the queue out: nothing that computes without torch needs it.
    if device != "cpu" and (problem := devices.problem_of(device)):
        sys.exit(f"error: TORCH_DEVICE={device!r}: {problem}; no worker of the queue gpu")


@signals.worker_init.connect
def _share(sender: Any, **_: Any) -> None:
    """Threads that torch may have in each process, as it takes all cores if nobody says otherwise, and memory that each keeps."""
    keep_freed()
    processes = 1 if _is_solo(sender) else int(sender.concurrency)
    threads.share_cores(processes)
    slots.share(processes)


def _is_solo(sender: Any) -> bool:
    """Of a worker that has no pool yet."""
    return "solo" in str(sender.pool_cls)


@signals.worker_ready.connect
def _begin(sender: Any, **_: Any) -> None:
    queues = tuple(sorted(queue.name for queue in sender.task_consumer.queues))
    thread = HeartbeatThread(sender.hostname, queues, sender.pool.num_processes)
    _threads.append(thread)
    thread.guard = _guard(thread, is_solo=isinstance(sender.pool, SoloPool))
    thread.guard.begin()
    thread.beat()
    thread.start()


def _guard(thread: HeartbeatThread, *, is_solo: bool) -> Guard:
    redis = connect(env.read().redis_url, timeout_s=2)
    return SoloGuard(slots=slots.shared(), redis=redis, leave=thread.end) if is_solo else Guard(slots=slots.shared(), redis=redis)


@signals.worker_shutdown.connect
def _end(**_: Any) -> None:
    for thread in _threads:
        thread.end()


@signals.task_failure.connect
def _child_lost(sender: Any = None, args: Any = None, exception: BaseException | None = None, **_: Any) -> None:
    """A child died in mid-bundle: the parent reports that bundle, since the child cannot. Of one that the guard has ended, all is said.

    What it had not begun of its parcel is charged with nothing, and the ledger finds it.
    """
    if isinstance(exception, WorkerLostError) and getattr(sender, "name", None) == TASK and args:
        begun = slots.shared().begun([str(message["id"]) for message in args[0]])
        if begun and not any(thread.guard and begun.parcel in thread.guard.ended for thread in _threads):
            report_lost(begun, Failure(message="the worker process died while computing it"))


@signals.worker_process_init.connect
def _prepare_child(**_: Any) -> None:
    """A child leaves signals for the terminal to its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

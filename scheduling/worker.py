"""What a Celery worker's parent process does for the engine: heartbeats that name its bundles, and lost children reported.

Connected by signals when `workflowsite.celery` loads it. The parent does no image work, so a heartbeat is never late for it; where it
does (the solo pool), image work lets other threads run.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from datetime import UTC, datetime
from typing import Any

from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import signals
from celery.concurrency.solo import TaskPool as SoloPool
from celery.worker import state as worker_state
from redis import Redis, RedisError

from scheduling import solo
from scheduling.engine import presence
from scheduling.engine.inbox import connect
from scheduling.engine.messages import Bundle, Failure, Outcome
from scheduling.instanseg import devices, threads
from scheduling.slides.memory import keep_freed
from scheduling.tasks import DELIVERY_S, TASK, deliver
from scheduling.version import code_version
from workflowsite import env

logger = logging.getLogger(__name__)

#: A process that ends itself waits no longer for Redis: the ledger finds the bundle without its word.
STUCK_DELIVERY_S = 2.0


class HeartbeatThread(threading.Thread):
    """Says every second that this worker lives, and what it holds."""

    def __init__(self, name: str, queues: tuple[str, ...], processes: int) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._worker, self._queues, self._processes = name, queues, processes
        self._redis: Redis = connect(env.read().redis_url, timeout_s=2)
        self._ended = threading.Event()
        self._parent = os.getpid()

    def run(self) -> None:
        """Beat until the worker ends."""
        while not self._ended.wait(presence.BEAT_S):
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
        held = tuple(request.id for request in list(worker_state.reserved_requests))
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
    threads.share_cores(1 if _is_solo(sender) else int(sender.concurrency))


def _is_solo(sender: Any) -> bool:
    """Of a worker that has no pool yet."""
    return "solo" in str(sender.pool_cls)


@signals.worker_ready.connect
def _begin(sender: Any, **_: Any) -> None:
    queues = tuple(sorted(queue.name for queue in sender.task_consumer.queues))
    thread = HeartbeatThread(sender.hostname, queues, sender.pool.num_processes)
    _threads.append(thread)
    thread.beat()
    thread.start()
    if isinstance(sender.pool, SoloPool):
        solo.begin(solo.Watch(give_up=_report_stuck, leave=thread.end))


@signals.worker_shutdown.connect
def _end(**_: Any) -> None:
    for thread in _threads:
        thread.end()


@signals.task_failure.connect
def _child_lost(sender: Any = None, args: Any = None, exception: BaseException | None = None, **_: Any) -> None:
    """A child died in mid-bundle, or was ended because nothing came of it: the parent reports it, since the child cannot."""
    if isinstance(exception, (WorkerLostError, TimeLimitExceeded)) and getattr(sender, "name", None) == TASK and args:
        orders = [Bundle.from_json(message) for message in args[0]]
        is_stuck = isinstance(exception, TimeLimitExceeded)
        for order in orders:
            _report_lost(order, _stuck(order) if is_stuck else "the worker process died while computing it")


def _stuck(order: Bundle) -> str:
    return f"nothing came of it for {order.limit_s:.0f} s"


def _report_stuck(order: Bundle) -> None:
    """As for a child, of a bundle that runs in this process."""
    _report_lost(order, _stuck(order), delivery_s=STUCK_DELIVERY_S)


def _report_lost(order: Bundle, message: str, delivery_s: float = DELIVERY_S) -> None:
    logger.warning("a bundle is lost: %s", message, extra={"action": "child_lost", "job_id": order.spec.id, "epoch": order.epoch})
    base: dict[str, Any] = {"bundle": order.id, "job": order.spec.id, "epoch": order.epoch, "worker": socket.gethostname()}
    outcome = Outcome(**base, is_lost=True, failure=Failure(message=message))
    deliver(connect(env.read().redis_url), order.term, outcome, within_s=delivery_s)


@signals.worker_process_init.connect
def _prepare_child(**_: Any) -> None:
    """A child leaves signals for the terminal to its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

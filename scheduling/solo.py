"""What Celery leaves out of a worker whose bundles run in its own process (the solo pool, as GPU workers have it): a limit on
a bundle's time, and a stop that does not wait for a bundle without end. Either ends the process; its starter starts it again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from celery import signals
from celery.worker import state as worker_state

from scheduling.engine.messages import Bundle
from scheduling.tasks import TASK

logger = logging.getLogger(__name__)

LOOK_S = 0.25
#: A worker that is asked to stop has 15 s in all; a bundle's time box is shorter than this.
STOP_S = 10.0
STUCK, STOPPED = 1, 0


@dataclass
class Watch:
    """Looks at the bundle under way. Times are seconds of `clock`."""

    #: Hears of a bundle that is given up, before the process ends.
    give_up: Callable[[Bundle], None]
    leave: Callable[[], None]
    exit: Callable[[int], Any] = os._exit
    clock: Callable[[], float] = time.monotonic
    is_stopping: Callable[[], bool] = lambda: worker_state.should_stop is not None  # an exit code, 0 most likely
    _began: tuple[Bundle, float] | None = field(default=None, init=False)
    _stopping_since: float | None = field(default=None, init=False)

    def begin(self, message: dict[str, Any]) -> None:
        """A bundle begins."""
        self._began = Bundle.from_json(message), self.clock()

    def end(self) -> None:
        """It has ended."""
        self._began = None

    def look(self) -> None:
        """End the process when its bundle has had its time, or holds up a stop."""
        began, now = self._began, self.clock()
        if self.is_stopping() and self._stopping_since is None:
            self._stopping_since = now
        if began is None:
            return
        bundle, since = began
        if now - since > bundle.limit_s:
            self.give_up(bundle)
            self._go(STUCK)
        elif self._stopping_since is not None and now - self._stopping_since > STOP_S:
            logger.warning("stopping without the end of its bundle", extra={"action": "bundle_dropped", "job_id": bundle.spec.id})
            self._go(STOPPED)

    def _go(self, code: int) -> None:
        self.leave()
        self.exit(code)


def begin(watch: Watch) -> None:
    """Watch over this process from now on."""
    signals.task_prerun.connect(lambda sender=None, args=(), **_: watch.begin(args[0]) if sender.name == TASK else None, weak=False)
    signals.task_postrun.connect(lambda **_: watch.end(), weak=False)
    threading.Thread(target=_look_for_ever, args=(watch,), name="watch", daemon=True).start()


def _look_for_ever(watch: Watch) -> None:
    while True:
        time.sleep(LOOK_S)
        watch.look()

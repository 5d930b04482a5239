"""A process of a worker that has had nothing to do for a while gives the memory that it has freed back to the system.

Under work it keeps it (`memory`): fresh pages for each window can cost more than computing on it.
"""

from __future__ import annotations

import threading
import time
from functools import cache
from typing import Any

from celery import signals

from scheduling.worker.memory import give_back

REST_S = 5.0


class Rest(threading.Thread):
    """Sleeps until something has been done, then until nothing has been for `rest_s`."""

    def __init__(self, rest_s: float = REST_S) -> None:
        super().__init__(name="rest", daemon=True)
        self._rest_s = rest_s
        self._has_worked = threading.Event()
        self._worked_at = 0.0

    def worked(self) -> None:
        """A bundle has ended."""
        self._worked_at = time.monotonic()
        if not self._has_worked.is_set():
            self._has_worked.set()

    def run(self) -> None:
        """Until the process ends."""
        while self._has_worked.wait():
            while (left_s := self._worked_at + self._rest_s - time.monotonic()) > 0:
                time.sleep(left_s)
            self._has_worked.clear()
            give_back()


@cache
def rest() -> Rest:
    """Of this process, begun at its first bundle: a parent that forks has none."""
    thread = Rest()
    thread.start()
    return thread


@signals.task_postrun.connect
def _worked(**_: Any) -> None:
    rest().worked()

"""The watchers of a run: samples of the database about ten times a second, and what /readyz says about twice a second."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

from tests.chaos.database import ERRORS, Database, Session
from tests.chaos.recovery import Sample

EVERY_S = 0.1
READY_EVERY_S = 0.5
_TILES = "SELECT COALESCE(SUM(tiles_processed), 0) FROM scheduling_job"
_EVENT = "SELECT id FROM scheduling_event WHERE term > 0 AND type NOT IN ('leader.elected', 'leader.resigned') ORDER BY id DESC LIMIT 1"
_RUNNING = "SELECT id, epoch, tiles_processed FROM scheduling_job WHERE state = 'RUNNING'"


class Watcher:
    """Watches until `stop`. `samples` grows; a database that is away leaves a gap in it."""

    def __init__(self, database: Database, status: Callable[[str], int]) -> None:
        self.samples: list[Sample] = []
        #: How often /readyz gave which status; 0 = no answer.
        self.ready: Counter[int] = Counter()
        self._database, self._status = database, status
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._sample, self._ask)]

    def start(self) -> Watcher:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """End; waits for what is under way."""
        self._ended.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=20)

    def idle_s(self) -> float:
        """Seconds since the last progress."""
        samples = self.samples
        last = samples[-1] if samples else None
        for sample in reversed(samples):
            if last is not None and (sample.tiles, sample.event) != (last.tiles, last.event):
                return time.monotonic() - sample.at
        return time.monotonic() - samples[0].at if samples else 0.0

    def _sample(self) -> None:
        session: Session | None = None
        while not self._ended.wait(EVERY_S):
            try:
                session = session or self._database.session()
                self.samples.append(_look(session))
            except ERRORS:
                if session is not None:
                    session.close()
                session = None
        if session is not None:
            session.close()

    def _ask(self) -> None:
        while not self._ended.wait(READY_EVERY_S):
            self.ready[self._status("/readyz")] += 1


def _look(session: Session) -> Sample:
    """`at` is taken first: what is seen was so at that time or a little later."""
    at = time.monotonic()
    events = session.rows(_EVENT)
    running = {job: (epoch, tiles) for job, epoch, tiles in session.rows(_RUNNING)}
    return Sample(at=at, tiles=int(session.rows(_TILES)[0][0]), event=events[0][0] if events else 0, running=running)

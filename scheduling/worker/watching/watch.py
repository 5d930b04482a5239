"""The watch of a worker: looks at each bundle under way, and has the process ended that is stuck in one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from scheduling.worker.watching import vitals
from scheduling.worker.watching.slots import Carried
from scheduling.worker.watching.stillness import Stillness, Verdict, Vitals

logger = logging.getLogger(__name__)

LOOK_S = 0.5
#: Younger bundles are not looked at closely: nearly all end before.
YOUNG_S = 2.0
#: A process that is stopped between two bundles is taken for gone after so long: it would never begin what it is handed.
STOPPED_S = 10.0


@dataclass(kw_only=True)
class Watch:
    """Over the processes of one worker. Times are seconds of `clock`."""

    carried: Callable[[], list[Carried]]
    measure: Callable[[Collection[int]], Mapping[int, Vitals]]
    #: Those of these bundles of which nobody wants the outcome any more.
    unwanted: Callable[[list[Carried]], Collection[str]]
    #: Ends the process that carries the bundle.
    end: Callable[[Carried, Verdict], None]
    #: Processes between two bundles, and whether one is stopped.
    idle: Callable[[], list[Carried]] = list
    is_stopped: Callable[[int], bool] = vitals.is_stopped
    clock: Callable[[], float] = time.monotonic
    _known: dict[str, Stillness] = field(default_factory=dict, init=False)
    _stopped_s: dict[int, float] = field(default_factory=dict, init=False)
    _looked_at: float | None = field(default=None, init=False)

    def look(self) -> None:
        """Judge each bundle by what its process has used since the last look.

        A look that comes late counts as one that comes in time: whatever kept the watch from looking, a busy machine or one that
        slept, kept the bundle from its work as well.
        """
        now = self.clock()
        passed_s = 0.0 if self._looked_at is None else min(now - self._looked_at, LOOK_S)
        self._looked_at = now
        old = [one for one in self.carried() if now - one.began_at >= YOUNG_S]
        self._look_at_idle(passed_s)
        used = self.measure([one.pid for one in old]) if old else {}
        unwanted = self.unwanted(old) if old else ()
        self._known = {one.bundle: self._of(one, used[one.pid]) for one in old if one.pid in used}
        for one in old:
            if one.pid in used:
                verdict = self._known[one.bundle].look(used[one.pid], passed_s, is_wanted=one.bundle not in unwanted)
                if verdict is not None:
                    self.end(one, verdict)

    def _look_at_idle(self, passed_s: float) -> None:
        stopped = [one for one in self.idle() if self.is_stopped(one.pid)]
        self._stopped_s = {one.pid: self._stopped_s.get(one.pid, 0.0) + passed_s for one in stopped}
        for one in stopped:
            if self._stopped_s[one.pid] > STOPPED_S:
                self.end(one, Verdict.STOPPED)

    def _of(self, one: Carried, used: Vitals) -> Stillness:
        return self._known.get(one.bundle) or Stillness(one.limit_s, used)

    def begin(self) -> None:
        """Look from now on, in a thread of its own."""
        threading.Thread(target=self._look_for_ever, name="watch", daemon=True).start()

    def _look_for_ever(self) -> None:
        while True:
            time.sleep(LOOK_S)
            vitals.count_apart()
            try:
                self.look()
            except Exception:  # a watch that ends would let everything hang
                logger.exception("the watch could not look", extra={"action": "watch_failed"})

"""Messages that a pool of processes has lost sight of: it counts them as received, and no process will ever carry them out.

A heartbeat that went on naming their bundles would keep the leader from sending them again.
"""

from __future__ import annotations

from collections.abc import Collection

#: A free process takes up a message that was received within milliseconds; on a busy machine late.
FORGOTTEN_S = 60.0
#: A beat that comes late counts as no more than this.
BEAT_AT_MOST_S = 1.5


class Forgotten:
    """For how long each bundle held was left alone though a process was free."""

    def __init__(self) -> None:
        self._idle_s: dict[str, float] = {}

    def look(self, held: Collection[str], carried: Collection[str], *, free: int, passed_s: float) -> frozenset[str]:
        """Of the bundles held, those that were left alone for too long."""
        passed_s = min(passed_s, BEAT_AT_MOST_S)
        waiting = [bundle for bundle in held if free > 0 and bundle not in carried]
        self._idle_s = {bundle: self._idle_s.get(bundle, 0.0) + passed_s for bundle in waiting}
        return frozenset(bundle for bundle, idle_s in self._idle_s.items() if idle_s > FORGOTTEN_S)

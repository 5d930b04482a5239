"""Whose bundle goes next among those that can be sent. Facts only, no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush

from scheduling.engine.entry import Entry
from scheduling.engine.policy import FairClock


class Ready:
    """Jobs of one queue of which a bundle can be sent, the fairest first: of the user with the least virtual time the job with the least.

    A heap for each user, so that a bundle costs the same however many jobs are ready.
    """

    def __init__(self, clock: FairClock, entries: Iterable[Entry]) -> None:
        self._clock = clock
        self._heaps: dict[int, list[tuple[float, int, Entry]]] = {}
        self._count = 0
        for entry in entries:
            self.push(entry)

    def __len__(self) -> int:
        return self._count

    def push(self, entry: Entry) -> None:
        """Add one that is ready (again)."""
        heappush(self._heaps.setdefault(entry.claimed.user, []), (entry.virtual_s, entry.claimed.job, entry))
        self._count += 1

    def pop(self) -> Entry:
        """Take the one whose turn it is. Raises ValueError when there is none."""
        user = self._clock.next_of(self._heaps)
        heap = self._heaps[user]
        entry = heappop(heap)[-1]
        if not heap:
            del self._heaps[user]
        self._count -= 1
        return entry

"""How often progress is told: to the browser at once and then at most 5 times a second a job, to the database 4 times in all.

What goes to the database is measured here too: how many tiles a second a job has made lately.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scheduling.engine.config import EngineConfig
from scheduling.engine.entry import Entry

Shown = tuple[int, int, int | None]
#: What is so long ago counts a third as much in a job's tiles a second.
PACE_S = 15.0
#: Too early for a pace that says anything.
MIN_MEASURED_S = 1.0


@dataclass
class Pace:
    """Tiles a second of one claim: sums of tiles and of seconds in which the past fades, e-fold in PACE_S.

    Their quotient is an exponentially weighted mean without the bias of a start from zero. Tiles that planning has found on
    the disk do not count, nor does the time before the first report.
    """

    epoch: int
    at: float
    computed: int
    tiles: float = 0.0
    seconds: float = 0.0

    def measured(self, computed: int, now: float) -> float | None:
        """With `computed` tiles made by now; None until enough was seen."""
        fading = math.exp((self.at - now) / PACE_S)
        self.tiles = self.tiles * fading + computed - self.computed
        self.seconds = self.seconds * fading + now - self.at
        self.at, self.computed = now, computed
        return self.tiles / self.seconds if self.tiles and self.seconds >= MIN_MEASURED_S else None


class ProgressReporter:
    """Remembers what was told when. Times are seconds of the loop's monotonic clock."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._browser: dict[int, tuple[Shown, float]] = {}
        self._database: dict[int, Shown] = {}
        self._paces: dict[int, Pace] = {}
        self._saved_at = float("-inf")
        self._shares: dict[tuple[int, str], float] = {}
        self._shares_at = float("-inf")

    def for_browser(self, entries: Iterable[Entry], now: float) -> list[Entry]:
        """Entries whose change is to be told now."""
        due = []
        for entry in entries:
            told, at = self._browser.get(entry.claimed.job, (None, float("-inf")))
            if _shown(entry) != told and now - at >= self._config.progress_to_browser_s:
                self._browser[entry.claimed.job] = (_shown(entry), now)
                due.append(entry)
        return due

    def for_database(self, entries: Iterable[Entry], now: float) -> list[Entry]:
        """Entries to be written now, all in one statement; their tiles a second are measured up to now."""
        if now - self._saved_at < self._config.progress_to_database_s:
            return []
        due = [entry for entry in entries if self._database.get(entry.claimed.job) != _shown(entry)]
        if due:
            self._saved_at = now
            for entry in due:
                self._measure(entry, now)
            self._database.update({entry.claimed.job: _shown(entry) for entry in due})
        return due

    def _measure(self, entry: Entry, now: float) -> None:
        pace = self._paces.get(entry.claimed.job)
        if pace is None or pace.epoch != entry.claimed.epoch:
            self._paces[entry.claimed.job] = Pace(epoch=entry.claimed.epoch, at=now, computed=entry.computed)
        else:
            entry.tiles_per_s = pace.measured(entry.computed, now)

    def shares_to_save(self, shares: Mapping[tuple[int, str], float], now: float) -> dict[tuple[int, str], float]:
        """The fair-share clocks that have moved; nothing when they were saved a moment ago."""
        if now - self._shares_at < self._config.shares_to_database_s:
            return {}
        moved = {key: seconds for key, seconds in shares.items() if self._shares.get(key) != seconds}
        self._shares.update(moved)
        self._shares_at = now
        return moved

    def has_untold(self, entries: Iterable[Entry]) -> bool:
        """Whether something changed that could not be told yet: the loop must wake soon."""
        return any(
            self._database.get(entry.claimed.job) != _shown(entry) or self._browser.get(entry.claimed.job, (None, 0.0))[0] != _shown(entry)
            for entry in entries
        )

    def forget(self, job: int) -> None:
        """The job has ended."""
        self._browser.pop(job, None)
        self._database.pop(job, None)
        self._paces.pop(job, None)


def _shown(entry: Entry) -> Shown:
    return entry.claimed.epoch, entry.progress, entry.tiles_total

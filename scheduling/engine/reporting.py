"""How often progress is told: to the browser at once and then at most 5 times a second a job, to the database 4 times in all."""

from __future__ import annotations

from collections.abc import Iterable

from scheduling.engine.config import EngineConfig
from scheduling.engine.entry import Entry

Shown = tuple[int, int, int | None]


class ProgressReporter:
    """Remembers what was told when. Times are seconds of the loop's monotonic clock."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._browser: dict[int, tuple[Shown, float]] = {}
        self._database: dict[int, Shown] = {}
        self._saved_at = float("-inf")

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
        """Entries to be written now, all in one statement."""
        if now - self._saved_at < self._config.progress_to_database_s:
            return []
        due = [entry for entry in entries if self._database.get(entry.claimed.job) != _shown(entry)]
        if due:
            self._saved_at = now
            self._database.update({entry.claimed.job: _shown(entry) for entry in due})
        return due

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


def _shown(entry: Entry) -> Shown:
    return entry.claimed.epoch, entry.progress, entry.tiles_total

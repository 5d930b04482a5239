"""What the engine is told at its start; built once from the environment, handed down, never read from inside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Limits and times of the engine."""

    data_dir: Path
    max_workers: int
    max_concurrent_users: int
    #: How long a user keeps a slot while others wait; 0 = until all jobs have ended.
    slot_max_s: float = 0.0
    #: A running job of which nothing finishes for this long fails.
    no_progress_s: float = 1800.0
    #: 0 = for ever.
    event_retention_days: int = 0
    #: How long a leader is trusted after its last transaction; it renews at least each third of it.
    lease_s: float = 6.0
    #: A bundle ends at the first tile border after this.
    time_box_s: float = 0.25
    #: The loop wakes at least this often.
    tick_s: float = 1.0
    #: At most so often the progress of running jobs goes to the database, and that of one job to the browser.
    progress_to_database_s: float = 0.25
    progress_to_browser_s: float = 0.2
    #: At most so often the fair-share clocks go to the database: what a crash may forgive.
    shares_to_database_s: float = 1.0
    #: A bundle that no worker names and that is not queued for this long is lost.
    lost_after_s: float = 5.0
    #: Slots are kept for work of a queue whose last worker went less than this ago: as long as for a retry.
    queue_patience_s: float = 60.0
    #: How often a tile that raises is tried, and the wait before the second and third try.
    tile_tries: int = 3
    tile_backoff_s: tuple[float, ...] = (0.5, 2.0)
    #: A disk that refuses is tried again after so long, and for so long in all.
    disk_probe_s: float = 5.0
    disk_patience_s: float = 600.0
    #: A bundle whose process does nothing at all for this long, or ten times what was expected, is ended with its process.
    stuck_s: float = 10.0
    #: Bundles inside Celery for each worker process.
    bundles_per_process: int = 2

    @property
    def max_active_users(self) -> int:
        """More users than workers could not all have a job running."""
        return min(self.max_concurrent_users, self.max_workers)

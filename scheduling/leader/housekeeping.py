"""What is removed beside the loop, in a thread of its own: what was deleted, what is too old, what no job needs any more."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta

from django.db import DatabaseError, connection
from django.utils import timezone

from scheduling.engine.config import EngineConfig
from scheduling.store import trash
from scheduling.store.lease import Deposed, Lease
from scheduling.store.leftovers import forget_old_keys, unneeded_folders
from scheduling.store.retention import EventTrimmer
from scheduling.store.samples import forget_old_samples

logger = logging.getLogger(__name__)

#: Listing every folder takes longer.
SWEEP_EVERY_S = 600.0
#: So that the log does not fill with marks of its own trimming.
TRIM_EVERY_S = 3600.0


class Housekeeper:
    """One round at a time; what goes wrong is logged and tried again in the next."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._trimmer = EventTrimmer()
        self._swept_at = self._trimmed_at = float("-inf")

    def round(self, lease: Lease | None) -> None:
        """Do what is due. `lease`: of this process while it leads; the log and the samples are the leader's."""
        self._guarded(lambda: trash.purge(self._config.data_dir, time.time()))
        self._guarded(lambda: forget_old_keys(timezone.now()))
        self._guarded(self._sweep)
        if lease is not None:
            self._guarded(lambda: self._trim(lease))
            self._guarded(lambda: forget_old_samples(lease, timezone.now()))
        connection.close()  # this thread's own

    def _sweep(self) -> None:
        if time.monotonic() - self._swept_at > SWEEP_EVERY_S:
            self._swept_at = time.monotonic()
            for folder in unneeded_folders(self._config.data_dir, time.time()):
                trash.discard(self._config.data_dir, folder)

    def _trim(self, lease: Lease) -> None:
        days = self._config.event_retention_days
        is_due = days > 0 and time.monotonic() - self._trimmed_at > TRIM_EVERY_S
        if is_due and not self._trimmer.round(lease, timezone.now() - timedelta(days=days)):
            self._trimmed_at = time.monotonic()

    @staticmethod
    def _guarded(duty: Callable[[], object]) -> None:
        try:
            duty()
        except (OSError, DatabaseError, Deposed) as error:
            logger.warning("something old could not be removed: %s", error, extra={"action": "purge_failed"})

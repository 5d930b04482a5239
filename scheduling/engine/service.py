"""One scheduler process: waits for the leadership, leads until it is stopped or deposed, survives a database that is away."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from django.db import DatabaseError, close_old_connections, connection
from django.utils import timezone
from redis import Redis

from scheduling import events
from scheduling.engine import trash
from scheduling.engine.config import EngineConfig
from scheduling.engine.inbox import Inbox
from scheduling.engine.lease import Deposed, Lease, acquire, holder_name
from scheduling.engine.loop import SchedulerLoop
from scheduling.engine.pool import CeleryPool
from scheduling.engine.store.housekeeping import forget_old_keys, unneeded_folders
from scheduling.engine.store.log import leader_event, record

logger = logging.getLogger(__name__)
T = TypeVar("T")

STANDBY_S = 1.0
#: So many database errors in a row end the process; the supervisor starts a new one.
MAX_ERRORS = 20
PURGE_EVERY_S = 20.0
#: Listing every folder takes longer.
SWEEP_EVERY_S = 600.0


class SchedulerService:
    """Runs until `stop`. `stop` may be called from a signal handler: it only sets a flag that every wait looks at."""

    def __init__(self, *, config: EngineConfig, redis: Redis) -> None:
        self._config, self._redis = config, redis
        self._holder = holder_name()
        self._is_stopping = False
        self._errors = 0

    def stop(self) -> None:
        """Ask for the end."""
        self._is_stopping = True

    def run(self) -> None:
        """Lead whenever possible, until stopped. Raises DatabaseError after too many in a row."""
        housekeeping = threading.Thread(target=self._keep_house, name="housekeeping", daemon=True)
        housekeeping.start()
        while not self._is_stopping:
            lease = self._guarded(lambda: acquire(self._holder, self._config.lease_s))
            if lease is None:
                time.sleep(STANDBY_S * random.uniform(0.5, 1.0))
            else:
                self._lead(lease)

    def _lead(self, lease: Lease) -> None:
        loop = SchedulerLoop(config=self._config, lease=lease, inbox=Inbox(self._redis), pool=CeleryPool(self._redis))
        try:
            while not self._is_stopping and not self._guarded(loop.begin):
                time.sleep(STANDBY_S)
            while not self._is_stopping:
                self._guarded(loop.run_once)
        except Deposed as error:
            logger.warning("deposed: %s", error, extra={"action": "deposed", "term": lease.term})
        else:
            self._guarded(lambda: self._resign(lease))
            events.flush()

    @staticmethod
    def _resign(lease: Lease) -> None:
        with suppress(Deposed), lease.transaction():
            record([leader_event("leader.resigned", lease.term)])
            lease.resign()

    def _guarded(self, step: Callable[[], T]) -> T | None:
        """Do one step; a database error is logged and waited out with jitter, too many in a row are raised."""
        try:
            result = step()
        except DatabaseError as error:
            self._errors += 1
            if self._errors >= MAX_ERRORS:
                raise
            logger.warning("the database is away: %s", error, extra={"action": "database_away", "errors": self._errors})
            close_old_connections()
            time.sleep(min(5.0, 0.1 * 2**self._errors) * random.uniform(0.5, 1.0))
            return None
        self._errors = 0
        return result

    def _keep_house(self) -> None:
        """Remove what was deleted and what is too old; beside the loop, since removing a large folder takes its time."""
        swept_at = float("-inf")
        while not self._is_stopping:
            try:
                trash.purge(self._config.data_dir, time.time())
                forget_old_keys(timezone.now())
                if time.monotonic() - swept_at > SWEEP_EVERY_S:
                    swept_at = time.monotonic()
                    for folder in unneeded_folders(self._config.data_dir, time.time()):
                        trash.discard(self._config.data_dir, folder)
            except (OSError, DatabaseError) as error:
                logger.warning("something old could not be removed: %s", error, extra={"action": "purge_failed"})
            connection.close()  # this thread's own
            time.sleep(PURGE_EVERY_S)

"""One scheduler process: waits for the leadership, leads until it is stopped or deposed, survives a database that is away."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from django.db import DatabaseError, close_old_connections
from redis import Redis

from scheduling.engine.config import EngineConfig
from scheduling.leader.housekeeping import Housekeeper
from scheduling.leader.loop import SchedulerLoop
from scheduling.leader.pool import CeleryPool
from scheduling.live import updates
from scheduling.protocol.inbox import Inbox
from scheduling.store.events import leader_event, record
from scheduling.store.lease import Deposed, Lease, acquire, holder_name

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: A clean stop is followed by another leader within a second.
STANDBY_S = 0.6
#: So many database errors in a row end the process; the supervisor starts a new one.
MAX_ERRORS = 20
PURGE_EVERY_S = 20.0


class SchedulerService:
    """Runs until `stop`. `stop` may be called from a signal handler: it only sets a flag that every wait looks at."""

    def __init__(self, *, config: EngineConfig, redis: Redis) -> None:
        self._config, self._redis = config, redis
        self._holder = holder_name()
        self._is_stopping = False
        self._errors = 0
        #: While this process leads.
        self._lease: Lease | None = None

    def stop(self) -> None:
        """Ask for the end."""
        self._is_stopping = True

    def run(self) -> None:
        """Lead whenever possible, until stopped. Raises DatabaseError after too many in a row."""
        housekeeping = threading.Thread(target=self._keep_house, name="housekeeping", daemon=True)
        housekeeping.start()
        logger.info("standing by", extra={"action": "standing_by", "holder": self._holder})
        while not self._is_stopping:
            lease = self._guarded(lambda: acquire(self._holder, self._config.lease_s))
            if lease is None:
                time.sleep(STANDBY_S * random.uniform(0.5, 1.0))
            else:
                self._lease = lease
                self._lead(lease)
                self._lease = None

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
            updates.flush()

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
        """Beside the loop, since removing a large folder takes its time."""
        housekeeper = Housekeeper(self._config)
        while not self._is_stopping:
            housekeeper.round(self._lease)
            time.sleep(PURGE_EVERY_S)

"""Who leads: one row, a term that counts leaders, trust that ends by the database's clock.

Every transaction of the leader begins with an UPDATE of that row. It holds the row's lock to the end of the transaction, renews
the trust, and finds nothing to update for a leader that was deposed: that one can change nothing any more.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psutil
from django.db import connection, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from scheduling.models import SchedulerLease

#: PostgreSQL ends a leader's session that hangs inside a transaction, so that it cannot hold everybody up.
IDLE_IN_TRANSACTION_S = 3
LOCK_TIMEOUT_S = 5


class Deposed(Exception):
    """Another scheduler leads now."""


def holder_name() -> str:
    """This process, so that others on the same host can tell whether it still lives: host, pid, start time."""
    process = psutil.Process()
    return f"{_host()}/{process.pid}/{process.create_time():.2f}"


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The leadership of one term."""

    holder: str
    term: int
    lease_s: float

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction as the leader. Raises Deposed when another one leads."""
        with transaction.atomic():
            _bound_waits()
            if not self._own().update(trusted_until=Now() + timedelta(seconds=self.lease_s)):
                raise Deposed(f"term {self.term} has ended")
            yield

    def new_epochs(self, count: int) -> range:
        """Epochs never handed out before. Inside `transaction`."""
        self._own().update(epoch=F("epoch") + count)
        last = self._own().values_list("epoch", flat=True).get()
        return range(last - count + 1, last + 1)

    def resign(self) -> bool:
        """Give the leadership up, so that another scheduler takes over at once; False when it was lost before."""
        return bool(self._own().update(holder="", trusted_until=None))

    def _own(self) -> QuerySet[SchedulerLease]:
        return SchedulerLease.objects.filter(pk=1, holder=self.holder, term=self.term)


def acquire(holder: str, lease_s: float) -> Lease | None:
    """Become the leader if nobody is trusted, or if the trusted one was a process of this host that is gone; else None."""
    with transaction.atomic():
        _bound_waits()
        SchedulerLease.objects.get_or_create(pk=1)
        row = SchedulerLease.objects.select_for_update().get(pk=1)
        is_trusted = SchedulerLease.objects.filter(pk=1, trusted_until__gt=Now()).exists()
        if is_trusted and row.holder != holder and not _is_gone(row.holder):
            return None
        term = row.term + 1
        SchedulerLease.objects.filter(pk=1).update(holder=holder, term=term, trusted_until=Now() + timedelta(seconds=lease_s))
    return Lease(holder=holder, term=term, lease_s=lease_s)


def _is_gone(holder: str) -> bool:
    """Whether the holder was a process of this host that does not live any more; False when it cannot be told."""
    host, _, process = holder.partition("/")
    pid, _, started = process.partition("/")
    if host != _host() or not pid.isdigit():
        return False
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" != started
    except psutil.NoSuchProcess:
        return True


def _host() -> str:
    """This host and its space of process ids: a container shares neither name nor pids with its neighbour by accident."""
    marks = [socket.gethostname()]
    with suppress(OSError):
        marks.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8])
        marks.append(str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]"))
    return "-".join(marks)


def _bound_waits() -> None:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION_S}s'")
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'")

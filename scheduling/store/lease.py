"""Who leads: one row, a term that counts leaders, trust that ends by the database's clock.

Every transaction of the leader begins with an UPDATE of that row. It holds the row's lock to the end of the transaction, renews
the trust, and finds nothing to update for a leader that was deposed: that one can change nothing any more. The leader's own
idea of its trust begins with the attempt to renew, before anything was sent, so it is never longer than the database's.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path

import psutil
from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from scheduling.models import SchedulerLease
from scheduling.store import sets

#: PostgreSQL ends a leader's session that hangs inside a transaction, so that it cannot hold everybody up.
IDLE_IN_TRANSACTION_S = 3
LOCK_TIMEOUT_S = 5


_OWN = "WHERE id = 1 AND holder = %s AND term = %s"
_EPOCHS = f"UPDATE scheduling_schedulerlease SET epoch = epoch + %s {_OWN} RETURNING epoch"  # noqa: S608  (texts of ours)


class Deposed(Exception):
    """Another scheduler leads now."""


def holder_name() -> str:
    """This process, so that others on the same host can tell whether it still lives: host, pid, start time."""
    process = psutil.Process()
    return f"{_host()}/{process.pid}/{process.create_time():.2f}"


@dataclass(kw_only=True)
class Lease:
    """The leadership of one term."""

    holder: str
    term: int
    lease_s: float
    #: When the last attempt that succeeded was begun, by this process's monotonic clock.
    renewed_at: float = field(default_factory=time.monotonic)
    #: What the row said when the last transaction began.
    _standing: tuple[bool, frozenset[str]] = field(default=(False, frozenset()), init=False)
    #: Schedulers that began together do not renew together.
    _jitter: float = field(default_factory=lambda: random.uniform(0.8, 1.0))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction as the leader; renews the trust when it is committed. Raises Deposed when another one leads."""
        began = time.monotonic()
        with transaction.atomic():
            _settle_session()
            own = sets.ask(_renew_sql(), self.lease_s, self.holder, self.term)
            if not own:
                raise Deposed(f"term {self.term} has ended")
            [(is_draining, queues)] = own
            self._standing = bool(is_draining), frozenset(sets.as_json(queues))
            yield
        self.renewed_at, self._jitter = began, random.uniform(0.8, 1.0)

    @property
    def is_trusted(self) -> bool:
        """Whether nobody else can lead yet; after a long stop the leader must renew, or learn better, before it acts."""
        return time.monotonic() < self.renewed_at + self.lease_s

    @property
    def is_due(self) -> bool:
        """Whether it is time to renew: after a third of the lease, or a little earlier."""
        return time.monotonic() >= self.renewed_at + self.lease_s / 3 * self._jitter

    def new_epochs(self, count: int) -> range:
        """Epochs never handed out before. Inside `transaction`."""
        if not count:
            return range(0)
        [(last,)] = sets.ask(_EPOCHS, count, self.holder, self.term)
        return range(last - count + 1, last + 1)

    def standing(self) -> tuple[bool, frozenset[str]]:
        """Whether the operator lets the work run out, and the queues for whose work slots are given. Inside `transaction`."""
        return self._standing

    def expect(self, queues: frozenset[str]) -> None:
        """Say for the work of which queues slots are given. Inside `transaction`."""
        self._own().update(expected_queues=sorted(queues))
        self._standing = self._standing[0], queues

    def resign(self) -> bool:
        """Give the leadership up, so that another scheduler takes over at once; False when it was lost before."""
        return bool(self._own().update(holder="", trusted_until=None))

    def _own(self) -> QuerySet[SchedulerLease]:
        return SchedulerLease.objects.filter(pk=1, holder=self.holder, term=self.term)


def acquire(holder: str, lease_s: float) -> Lease | None:
    """Become the leader if nobody is trusted, or if the trusted one was a process of this host that is gone; else None."""
    began = time.monotonic()
    if not _is_vacant(holder):  # a look that locks nothing: standbys look often
        return None
    with transaction.atomic():
        _settle_session()
        SchedulerLease.objects.get_or_create(pk=1)
        row = SchedulerLease.objects.select_for_update().get(pk=1)
        if not _is_vacant(holder):
            return None
        term = row.term + 1
        SchedulerLease.objects.filter(pk=1).update(holder=holder, term=term, trusted_until=Now() + timedelta(seconds=lease_s))
    return Lease(holder=holder, term=term, lease_s=lease_s, renewed_at=began)


def _is_vacant(holder: str) -> bool:
    trusted = SchedulerLease.objects.filter(pk=1, trusted_until__gt=Now()).values_list("holder", flat=True).first()
    return trusted is None or trusted == holder or _is_gone(trusted)


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


@cache
def _renew_sql() -> str:
    """The row's lock, the renewed trust, and what the row says, in one statement. Seconds are added to the database's clock."""
    if connection.vendor == "postgresql":
        until = "STATEMENT_TIMESTAMP() + %s * INTERVAL '1 second'"
    else:
        until = "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'now', %s || ' seconds')"
    return f"UPDATE scheduling_schedulerlease SET trusted_until = {until} {_OWN} RETURNING is_draining, expected_queues"  # noqa: S608


def _settle_session() -> None:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            # All for this transaction alone, in one round trip. To compile a statement of a pass takes PostgreSQL longer than to carry it
            # out, and it does so whenever it does not know yet how small the tables are.
            cursor.execute(
                "SELECT set_config('idle_in_transaction_session_timeout', %s, true), set_config('lock_timeout', %s, true), "
                "set_config('jit', 'off', true)",
                [f"{IDLE_IN_TRANSACTION_S}s", f"{LOCK_TIMEOUT_S}s"],
            )

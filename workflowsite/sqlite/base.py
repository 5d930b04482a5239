"""Transactions that write begin in turn: among the threads of a process, and among the processes of a host.

SQLite lets a writer that must wait sleep for up to 100 ms at a time and look again; whoever looks at the right moment is next. Beside a
process that writes often, the scheduler or a web server with many threads, another one waits for seconds. Here one writer at a time looks,
every half millisecond, and the others stand behind it in a line of their process and then of the host.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from django.db import OperationalError
from django.db.backends.sqlite3 import base

LOOK_EVERY_S = 0.0005
#: For so long the threads of a process follow each other before another process has its turn; a turn for each transaction would let a
#: process that writes much in one go no more often than one that writes a little each time.
BURST_S = 0.03
#: The host's line is a courtesy: whoever stands at its head and does not move (a suspended process) holds nobody up for longer.
COURTESY_S = 0.25


class Line:
    """The threads of this process that wait for the right to write to one database, first come, first served."""

    def __init__(self, file: str) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._is_taken = False
        self._file = file
        #: Since when this process is at the head of the host's line; 0.0 when it is not.
        self._since = 0.0

    @contextmanager
    def head(self, until: float) -> Iterator[None]:
        """Be the one that looks whether the database can be written. Raises OperationalError after `until` (of time.monotonic)."""
        self._stand(until)
        try:
            if not self._since:
                self._ask_host(min(until, time.monotonic() + COURTESY_S))
            yield
        finally:
            self._leave()

    def _stand(self, until: float) -> None:
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        if turn.acquire(timeout=max(0.0, until - time.monotonic())):
            return
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
                raise OperationalError("database is locked")
        # The turn came in this very moment.

    def _leave(self) -> None:
        with self._lock:
            if not self._waiting or time.monotonic() - self._since > BURST_S:
                self._since = 0.0
                with suppress(OSError):
                    fcntl.flock(self._descriptor(), fcntl.LOCK_UN)
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._is_taken = False

    def _ask_host(self, until: float) -> None:
        """Come to the head of the host's line; nobody is held up where a file system has no locks."""
        with suppress(OSError):
            while not _locked(self._descriptor()) and time.monotonic() < until:
                time.sleep(LOOK_EVERY_S)
        self._since = time.monotonic()

    def _descriptor(self) -> int:
        return _opened(self._file, os.getpid())


@cache
def _opened(file: str, process: int) -> int:
    """The file of the host's line; a forked process opens its own, since a lock belongs to what was opened."""
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@cache
def line_of(database: str, process: int) -> Line:
    """The line of this process for a database."""
    return Line(f"{database}-turn")


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's, with BEGIN IMMEDIATE in turn."""

    def _start_transaction_under_autocommit(self) -> None:
        self.ensure_connection()
        timeout_s = float(self.settings_dict["OPTIONS"].get("timeout", 5.0))
        until = time.monotonic() + timeout_s
        with line_of(str(self.settings_dict["NAME"]), os.getpid()).head(until), self.wrap_database_errors:
            _begin(self.connection, until, timeout_s)


def _begin(connection: sqlite3.Connection, until: float, timeout_s: float) -> None:
    """Look again and again, in place of SQLite's own waiting. Raises sqlite3.OperationalError."""
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while not _begun(connection, is_last=time.monotonic() >= until):
            time.sleep(LOOK_EVERY_S)
    finally:
        connection.execute(f"PRAGMA busy_timeout = {round(timeout_s * 1000)}")


def _begun(connection: sqlite3.Connection, *, is_last: bool) -> bool:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if is_last or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return False
    return True

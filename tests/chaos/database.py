"""A look into the product's database from outside, on SQLite and PostgreSQL alike. Reads only."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

Rows = list[tuple[Any, ...]]
#: What a database that is locked, restarting or away raises.
ERRORS = (sqlite3.Error, psycopg.Error)


class Database:
    """Where the database is. `url` is None for SQLite in `file`."""

    def __init__(self, url: str | None, file: Path) -> None:
        self._url, self._file = url, file

    def rows(self, sql: str) -> Rows:
        """What a new connection answers. Raises one of ERRORS."""
        with closing(self.session()) as session:
            return session.rows(sql)

    def session(self) -> Session:
        """A connection to keep, for one thread. Raises one of ERRORS."""
        return Session(self._url, self._file)


class Session:
    """One connection that only reads."""

    def __init__(self, url: str | None, file: Path) -> None:
        self._connection: Any
        if url is not None:
            options = "-c default_transaction_read_only=on -c statement_timeout=5000"
            self._connection = psycopg.connect(url, autocommit=True, connect_timeout=3, options=options)
        else:
            self._connection = sqlite3.connect(file, timeout=5, isolation_level=None)
            self._connection.execute("PRAGMA query_only = ON")

    def rows(self, sql: str) -> Rows:
        """The answer. Raises one of ERRORS."""
        return list(self._connection.execute(sql).fetchall())

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def uuid_of(value: Any) -> str:
    """A UUID column as text: SQLite keeps 32 digits, PostgreSQL a type."""
    return str(value if isinstance(value, UUID) else UUID(value))


def json_of(value: Any) -> Any:
    """A JSON column as plain values: SQLite keeps text."""
    return json.loads(value) if isinstance(value, str) else value

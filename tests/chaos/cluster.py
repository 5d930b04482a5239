"""A PostgreSQL of the suite's own, on a loopback port, in a folder of its own; restarted in the middle of the work."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.support.product import free_port

#: PostgreSQL refuses to run as root; Debian's package makes this user.
OWNER = "postgres"
#: A crash of the machine is not tested, so fsync may be off; a crash of the server is: what it has committed must be there.
OPTIONS = "-c listen_addresses=127.0.0.1 -c fsync=off -c synchronous_commit=on -c max_connections=200"
RESTART_WITHIN_S = 60
WAYS = ("fast", "immediate")


class NoPostgres(Exception):
    """There is no PostgreSQL server on this machine: install one, or run with CHAOS_DATABASE=sqlite."""

    def __init__(self) -> None:
        super().__init__(str(type(self).__doc__))


def programs() -> Path:
    """The folder of the newest server's programs. Raises NoPostgres."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda folder: float(folder.parent.name))
    on_path = shutil.which("initdb")
    if on_path is None:
        raise NoPostgres
    return Path(on_path).resolve().parent


class Cluster:
    """Start, restart, stop. `url` is for DATABASE_URL."""

    def __init__(self) -> None:
        self._programs = programs()
        self._folder = Path(tempfile.mkdtemp(prefix="chaos-pg-"))
        self._owner = OWNER if os.geteuid() == 0 else None
        self._port = free_port()
        if self._owner:
            owner = pwd.getpwnam(OWNER)
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)

    @property
    def url(self) -> str:
        """The database of the product."""
        return f"postgres://postgres@127.0.0.1:{self._port}/postgres"

    def start(self) -> Cluster:
        """Make the cluster and start it."""
        self._run("initdb", "-D", self._data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync")
        self._control("start")
        return self

    def restart(self, way: str) -> None:
        """Restart; `way` is one of WAYS. Open connections break."""
        self._control("restart", "-m", way)

    def stop(self) -> None:
        """Stop it and remove everything."""
        if (self._folder / "data" / "postmaster.pid").exists():
            subprocess.run(self._command("pg_ctl", "-D", self._data, "-w", "-m", "immediate", "stop"), check=False, **self._as_owner())
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _control(self, *order: str) -> None:
        options = f"-p {self._port} -k {self._folder} {OPTIONS}"
        self._run("pg_ctl", "-D", self._data, "-l", str(self._folder / "log"), "-w", "-t", str(RESTART_WITHIN_S), "-o", options, *order)

    def _run(self, program: str, *arguments: str) -> None:
        """Raises CalledProcessError, TimeoutExpired."""
        subprocess.run(self._command(program, *arguments), check=True, timeout=2 * RESTART_WITHIN_S, **self._as_owner())

    def _command(self, program: str, *arguments: str) -> list[str]:
        return [str(self._programs / program), *arguments]

    def _as_owner(self) -> dict[str, Any]:
        identity: dict[str, Any] = {"user": self._owner, "group": self._owner, "extra_groups": []} if self._owner else {}
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        # A session of its own: Ctrl-C in the terminal is for the suite, which then stops the server.
        return {**identity, **quiet, "cwd": str(self._folder), "start_new_session": True}

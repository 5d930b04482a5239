"""What must hold before `make run` starts anything. Each check raises CannotStart with one line that names the setting."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time

from scheduling.env import Environment
from workflowsite import leftovers
from workflowsite.leftovers import Owner
from workflowsite.programs import folders

#: What a run that was killed leaves behind is ended at once; where it is not known, its lock is waited for.
LEFTOVER_S = 15.0
DATABASE_ANSWER_S = 5
LOCK_NAME = "run.lock"


class CannotStart(Exception):
    """The product cannot start here."""


def make_folders(env: Environment) -> None:
    """Make DATA_DIR and what it holds, and try to write there."""
    try:
        for folder in folders(env):
            folder.mkdir(parents=True, exist_ok=True)
        probe = env.data_dir / "tmp" / f".probe.{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise CannotStart(f"DATA_DIR={str(env.data_dir)!r}: cannot be written: {error.strerror or error}") from error


def check_port(env: Environment) -> None:
    """Bind HOST:PORT for a moment, as the web server will."""
    host = env.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET  # a name is an IPv4 address to daphne
    try:
        _, kind, protocol, _, address = socket.getaddrinfo(host, env.port, family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror as error:
        raise CannotStart(f"HOST={env.host!r}: {error.strerror}") from error
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)  # with address reuse it is listening, not binding, that another server refuses
        except OSError as error:
            raise CannotStart(_bind_problem(env, error)) from error


def _bind_problem(env: Environment, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"PORT={env.port}: {env.display_host}:{env.port} is taken by another program; set PORT to a free one"
    if error.errno == errno.EACCES:
        return f"PORT={env.port}: this user may not open it; set PORT to one above 1023"
    return f"HOST={env.host!r}: {error.strerror or error}"


def check_database(env: Environment) -> None:
    """Connect to DATABASE_URL once. What only Django understands in it is left to the migrations."""
    if env.database_url is None:
        return
    import psycopg  # noqa: PLC0415  (most starts need none)

    try:
        psycopg.connect(env.database_url, connect_timeout=DATABASE_ANSWER_S).close()
    except psycopg.OperationalError as error:
        # Not the URL itself: it may hold a password.
        raise CannotStart(f"DATABASE_URL: {' '.join(str(error).split())}") from error
    except psycopg.ProgrammingError:
        return


def take_lock(env: Environment, mark: str = "", parent: int | None = None) -> int:
    """Lock DATA_DIR for this run and return the lock's descriptor, which every program inherits.

    The lock is free again when the last holder has gone, so a new run cannot meet the programs of one that was killed; it ends them.
    """
    path = env.data_dir / LOCK_NAME
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LEFTOVER_S
    while not _try_lock(descriptor):
        owner = Owner.read(path.read_text())
        if owner.is_elsewhere or owner.is_at_work or time.monotonic() > deadline:
            os.close(descriptor)
            raise CannotStart(_in_use(env, owner))
        leftovers.end(owner)
        time.sleep(0.05)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, Owner.this_process(mark, parent).written().encode(), 0)
    return descriptor


def _in_use(env: Environment, owner: Owner) -> str:
    where = f" on {owner.host}" if owner.is_elsewhere else ""
    return f"DATA_DIR={str(env.data_dir)!r}: another `make run` (process {owner.pid or 'unknown'}{where}) is using it"


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

"""WSGI for a server whose loop reads and writes: threads that take whole requests in turn, and answers that come part by part.

Django's views are synchronous. Called as an ASGI application each request would get a thread and a database connection of its own, and
would cross between loop and thread several times.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Any, BinaryIO
from urllib.parse import unquote_to_bytes

logger = logging.getLogger(__name__)

#: A longer answer is read in parts of about this size.
PART_BYTES = 256 * 1024
#: Probes must be answered while everything else waits for a database that does not answer.
PROBES = ("/healthz", "/readyz")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
#: By lane. The interpreter runs one of them at a time; the others wait for the database, the disk or a process.
THREADS = {"probes": 2, "reads": 6, "writes": 6}

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Lane:
    """Threads that take one task after another, in the order given. They end with the process."""

    def __init__(self, name: str, threads: int) -> None:
        self._tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
        for number in range(threads):
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True).start()

    def do(self, task: Callable[[], None]) -> None:
        """Have it done by the next thread that is free."""
        self._tasks.put(task)

    def _work(self) -> None:
        while True:
            task = self._tasks.get()
            try:
                task()
            except Exception:
                logger.exception("a task of the web server failed", extra={"action": "web_task_failed"})
            del task  # what it holds, as a body's file, must not stay until the next one comes


class Lanes:
    """All of them: what only reads never waits behind what writes, and a probe behind neither."""

    def __init__(self) -> None:
        self._lanes = {name: Lane(name, threads) for name, threads in THREADS.items()}

    def of(self, method: str, path: str) -> Lane:
        """The lane of a request."""
        name = "probes" if path in PROBES else "reads" if method in SAFE_METHODS else "writes"
        return self._lanes[name]


class Answer:
    """What a WSGI application answers. Made and read by threads, one at a time."""

    def __init__(self, application: Application, environ: dict[str, Any]) -> None:
        self.status = 500
        self.headers: list[tuple[bytes, bytes]] = []
        self._body: BinaryIO = environ["wsgi.input"]
        try:
            self._made = application(environ, self._start)
        except BaseException:
            self._body.close()
            raise
        self._chunks = iter(self._made)

    def part(self) -> tuple[bytes, bool]:
        """The next part, and whether it is the last; the answer is closed then."""
        chunks, size = [], 0
        try:
            for chunk in self._chunks:
                chunks.append(chunk)
                size += len(chunk)
                if size >= PART_BYTES:
                    return b"".join(chunks), False
        except BaseException:
            self.close()
            raise
        self.close()
        return b"".join(chunks), True

    def close(self) -> None:
        """Nobody reads any more."""
        self._body.close()
        if hasattr(self._made, "close"):
            self._made.close()

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        self.status = int(status.partition(" ")[0])
        self.headers = [(name.encode("latin1"), value.encode("latin1")) for name, value in headers]


def environ_of(scope: dict[str, Any], body: BinaryIO) -> dict[str, Any]:
    """WSGI's description of a request, from ASGI's."""
    host, port = scope["server"] or ("", 0)
    environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": scope["root_path"].encode().decode("latin1"),
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin1"),
        "QUERY_STRING": scope["query_string"].decode("latin1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "REMOTE_ADDR": scope["client"][0] if scope["client"] else "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": body,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    _add_headers(environ, scope["headers"])
    return environ


def _add_headers(environ: dict[str, Any], headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Those given twice are joined, as a list of values or of cookies."""
    for name, value in headers:
        key = name.decode("latin1").upper().replace("-", "_")
        key = key if key in {"CONTENT_LENGTH", "CONTENT_TYPE"} else f"HTTP_{key}"
        text = value.decode("latin1")
        if key in environ:
            text = environ[key] + ("; " if key == "HTTP_COOKIE" else ",") + text
        environ[key] = text

"""An application that shows what the web server hands over and how far it lets an answer run ahead of its reader."""

from __future__ import annotations

import hashlib
import json
import resource
import threading
from collections.abc import Callable, Iterator
from typing import Any

CHUNK = bytes(2**20)


class Echo:
    """HTTP by `http`: `/endless` streams until nobody reads, `/held` waits for `/release`, anything else tells of its request."""

    def __init__(self) -> None:
        self.sent = 0
        self.closed = 0
        self.sockets_outlived = 0
        self._released = threading.Event()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """A websocket: what an application does that has not heard yet of its client's going."""
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4400})
        await send({"type": "websocket.send", "text": "late"})
        self.sockets_outlived += 1

    def http(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """WSGI."""
        if environ["PATH_INFO"] == "/broken":
            raise RuntimeError("as asked")
        if environ["PATH_INFO"] == "/held":
            self._released.wait(timeout=60)
        if environ["PATH_INFO"] == "/release":
            self._released.set()
        start_response("200 OK", [("Content-Type", "application/json")])
        return self._endless() if environ["PATH_INFO"] == "/endless" else [json.dumps(self._told(environ)).encode()]

    def _endless(self) -> Iterator[bytes]:
        self.sent = 0
        try:
            while True:
                yield CHUNK
                self.sent += 1
        finally:
            self.closed += 1

    def _told(self, environ: dict[str, Any]) -> dict[str, Any]:
        digest, size = hashlib.sha256(), 0
        while chunk := environ["wsgi.input"].read(2**16):
            digest.update(chunk)
            size += len(chunk)
        return {
            "size": size,
            "sha256": digest.hexdigest(),
            "environ": {name: value for name, value in environ.items() if isinstance(value, str)},
            "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            "sent": self.sent,
            "closed": self.closed,
            "sockets_outlived": self.sockets_outlived,
        }


application = Echo()

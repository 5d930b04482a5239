"""The web server: daphne, made fit for whole slides. `python -m workflowsite.web` takes daphne's own options.

Daphne alone keeps every byte of a request in memory (several times) before the application sees it, accepts bodies without an
end, and takes answers from the application faster than a slow client reads them. Here bodies are counted while they arrive, handed over as
the file they were written to, and answers wait for the client.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from contextlib import suppress
from contextvars import Context
from functools import cache
from io import BytesIO
from typing import Any, BinaryIO

from autobahn.exception import Disconnected
from daphne import http_protocol
from daphne.cli import CommandLineInterface
from daphne.server import Server
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from workflowsite import env, prepared
from workflowsite.handler import BODY

#: Of every body but an upload: 1 MiB, and what surrounds it in a form.
MAX_BODY_BYTES = 2**20 + 2**16
UPLOAD_PATH = b"/slide"
ANNOTATION_PATH = re.compile(rb"/slide/[^/]+/annotation\Z")
#: Of an annotation, as the API says, and what surrounds it in a form.
MAX_ANNOTATION_BYTES = 16 * 2**20 + 2**16
#: A client that is in the middle of sending hears the refusal only after its body; so much of that is read and dropped.
DRAIN_BYTES = 16 * 2**20
TOO_LARGE = json.dumps({"detail": "The body is too large."}).encode()


@cache
def _max_upload_bytes() -> int:
    return env.read().max_upload_bytes


def max_body_bytes(method: bytes, path: bytes, max_upload_bytes: int) -> int:
    """The longest body that a request may have."""
    place = path.partition(b"?")[0]
    if method == b"POST" and ANNOTATION_PATH.match(place):
        return MAX_ANNOTATION_BYTES
    is_upload = method == b"POST" and place == UPLOAD_PATH
    return max(MAX_BODY_BYTES, max_upload_bytes + 2**16) if is_upload else MAX_BODY_BYTES


@implementer(IPushProducer)
class Pace:
    """Whether the client can take more of the answer. Twisted calls it; the application waits for it."""

    def __init__(self) -> None:
        self._is_open = asyncio.Event()
        self._is_open.set()

    async def wait(self) -> None:
        """Until more may be written, or nobody reads any more."""
        await self._is_open.wait()

    def pauseProducing(self) -> None:
        """The client's buffer is full."""
        self._is_open.clear()

    def resumeProducing(self) -> None:
        """The client has read."""
        self._is_open.set()

    def stopProducing(self) -> None:
        """The client has gone."""
        self._is_open.set()


class BoundedRequest(http_protocol.WebRequest):
    """A request whose body ends at its limit and whose answer keeps the client's pace."""

    content: BinaryIO

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Twisted would parse forms by itself, in memory (ten times an upload's size), and in the loop that serves everybody.
        super().__init__(*args, **{**kwargs, "parsePOSTFormSubmission": False})
        self.pace: Pace | None = None
        self._limit = MAX_BODY_BYTES
        self._received = 0
        self._is_too_large = False

    def gotLength(self, length: int | None) -> None:
        """Twisted's: the headers are complete. `length` is None for a chunked body."""
        channel = self.channel
        # The request knows its own path only when its body has arrived.
        self._limit = max_body_bytes(channel._command, channel._path, _max_upload_bytes())
        self._is_too_large = length is not None and length > self._limit
        super().gotLength(0 if self._is_too_large else length)

    def handleContentChunk(self, data: bytes) -> None:
        """Twisted's: a part of the body has arrived."""
        self._received += len(data)
        if self._received > self._limit and not self._is_too_large:
            self._is_too_large = True
            self.content.close()
            self.content = BytesIO()
        if not self._is_too_large:
            super().handleContentChunk(data)
        elif self._received > self._limit + DRAIN_BYTES:
            self._cut_off()

    def process(self) -> Any:
        """Twisted's: the body is complete."""
        if not self._is_too_large:
            return super().process()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(TOO_LARGE)).encode()), (b"connection", b"close")]
        self.handle_reply({"type": "http.response.start", "status": 413, "headers": headers})
        return self.handle_reply({"type": "http.response.body", "body": TOO_LARGE})

    def _cut_off(self) -> None:
        head = f"HTTP/1.1 413 Content Too Large\r\nContent-Type: application/json\r\nContent-Length: {len(TOO_LARGE)}\r\nConnection: close\r\n\r\n"
        self.channel.transport.write(head.encode() + TOO_LARGE)
        self.channel.loseConnection()

    def handle_reply(self, message: dict[str, Any]) -> None:
        """Daphne's: write a part of the answer."""
        if message.get("more_body") and self.pace is None and self.channel is not None:
            self.pace = Pace()
            self.registerProducer(self.pace, True)
        super().handle_reply(message)

    def finish(self) -> None:
        """Twisted's: the answer is complete."""
        if self.pace is not None:
            self.unregisterProducer()
        super().finish()

    def connectionLost(self, reason: Any) -> None:
        """Twisted's: the client has gone."""
        if self.pace is not None:
            self.pace.stopProducing()
        super().connectionLost(reason)


class BoundedServer(Server):
    """Hands the body's file to the application in the scope, and lets the application wait for the client."""

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        """Daphne's: begin a request or a websocket."""
        if scope["type"] == "http":
            scope.setdefault("extensions", {})[BODY] = _taken_body(protocol, scope["headers"])
        # A request that waited on its connection begins inside the end of the one before it: with that one's context it would
        # work in that one's thread, and leave its database connection there for good.
        return Context().run(super().create_application, protocol, scope)

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        """Daphne's: the application sends. A socket whose client has just gone takes nothing more; the application hears of it by itself."""
        with suppress(Disconnected):
            await super().handle_reply(protocol, message)
        if (pace := getattr(protocol, "pace", None)) is not None:
            await pace.wait()
            # Nobody may read any more: an application that goes on sending leaves the loop to others all the same.
            await asyncio.sleep(0)


def _taken_body(request: BoundedRequest, headers: list[tuple[bytes, bytes]]) -> BinaryIO:
    """The file of the body; daphne, left with an empty one, sends no copy of it. A chunked body gets the length it had."""
    body: BinaryIO = request.content
    request.content = BytesIO()
    if not any(name == b"content-length" for name, _ in headers):
        headers[:] = [(name, value) for name, value in headers if name != b"transfer-encoding"]
        headers.append((b"content-length", str(body.seek(0, os.SEEK_END)).encode()))
        body.seek(0)
    return body


def load() -> None:
    """What the first request would load: the application and all views."""
    import workflowsite.asgi  # noqa: PLC0415  (sets Django up)
    import workflowsite.urls  # noqa: F401, PLC0415  (needs that)


def main() -> None:
    """Run daphne with the classes of this module; it has no setting for that of requests."""
    load()
    prepared.wait()
    http_protocol.WebRequest = BoundedRequest
    CommandLineInterface.server_class = BoundedServer
    CommandLineInterface.entrypoint()


if __name__ == "__main__":
    main()

"""The web server: daphne, made fit for whole slides. `python -m workflowsite.web` takes daphne's own options.

Daphne alone keeps every byte of a request in memory (several times) before the application sees it, accepts bodies without an
end, and takes answers from the application faster than a slow client reads them. Here bodies are counted while they arrive, handed over as
the file they were written to, and answers wait for the client. The loop does all of that, and websockets; what a complete HTTP request asks for
is worked out by a WSGI application on threads (`workflowsite.threads`), which a slow client therefore never holds.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from functools import cache
from io import BytesIO
from typing import Any, BinaryIO

import django
from autobahn.exception import Disconnected
from daphne import http_protocol
from daphne.cli import CommandLineInterface
from daphne.server import Server
from twisted.internet import reactor
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from scheduling import env, prepared
from workflowsite.threads import Answer, Application, Lane, Lanes, environ_of

logger = logging.getLogger(__name__)

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


class BoundedRequest(http_protocol.WebRequest):
    """A request whose body ends at its limit and whose answer keeps the client's pace."""

    content: BinaryIO

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Twisted would parse forms by itself, in memory (ten times an upload's size), and in the loop that serves everybody.
        super().__init__(*args, **{**kwargs, "parsePOSTFormSubmission": False})
        self.reply: Reply | None = None
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

    def connectionLost(self, reason: Any) -> None:
        """Twisted's: the client has gone."""
        if self.reply is not None:
            self.reply.stopProducing()
        super().connectionLost(reason)


@implementer(IPushProducer)
class Reply:
    """An answer on its way. The loop writes it at the client's pace; a thread is asked for each part, and is free in between."""

    def __init__(self, request: BoundedRequest, lane: Lane) -> None:
        self._request = request
        self._lane = lane
        self._answer: Answer | None = None
        self._is_wanted = True
        self._is_open = True
        self._is_reading = False

    def begin(self, application: Application, environ: dict[str, Any]) -> None:
        """Have the application answer."""
        self._read(lambda: Answer(application, environ))

    def pauseProducing(self) -> None:
        """Twisted's: the client's buffer is full."""
        self._is_open = False

    def resumeProducing(self) -> None:
        """Twisted's: the client has read."""
        self._is_open = True
        self._go_on()

    def stopProducing(self) -> None:
        """Twisted's: the client has gone."""
        self._is_wanted = False
        self._go_on()

    def _go_on(self) -> None:
        """Read the next part if it can be sent; let go of what nobody wants."""
        answer = self._answer
        if answer is None or self._is_reading:
            return
        if not self._is_wanted:
            self._answer = None
            self._lane.do(answer.close)
        elif self._is_open:
            self._read(lambda: answer)

    def _read(self, answer_of: Callable[[], Answer]) -> None:
        def work() -> None:
            try:
                answer = answer_of()
                part, is_last = answer.part()
            except Exception:
                logger.exception("the application raised", extra={"action": "application_raised"})
                reactor.callFromThread(self._fail)
            else:
                reactor.callFromThread(self._send, answer, part, is_last)

        self._is_reading = True
        self._lane.do(work)

    def _send(self, answer: Answer, part: bytes, is_last: bool) -> None:
        self._is_reading = False
        if self._answer is None:
            self._request.handle_reply({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
            if not is_last and self._is_wanted:
                self._request.registerProducer(self, True)
        self._answer = None if is_last else answer
        if is_last and self._request.producer is not None:
            self._request.unregisterProducer()
        self._request.handle_reply({"type": "http.response.body", "body": part, "more_body": not is_last})
        self._go_on()

    def _fail(self) -> None:
        """The client sees an error, or an answer that is cut off."""
        self._is_reading = False
        if self._answer is None:
            self._request.handle_exception(None)
        elif self._request.channel is not None:
            self._request.channel.loseConnection()
        self._answer = None


class BoundedServer(Server):
    """Has HTTP requests answered on threads. Its application, for websockets, has one for HTTP as its attribute `http`."""

    def run(self) -> None:
        """Daphne's: serve."""
        self.lanes = Lanes()
        super().run()

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        """Daphne's: begin a request or a websocket. None: there are no messages for an application."""
        if scope["type"] != "http":
            # One that waited on its connection begins inside the end of the request before it, in the context of a thread's work.
            return Context().run(super().create_application, protocol, scope)
        body = _taken_body(protocol, scope["headers"])
        protocol.reply = Reply(protocol, self.lanes.of(scope["method"], scope["path"]))
        protocol.reply.begin(self.application.http, environ_of(scope, body))
        return None

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        """Daphne's: the application sends. A socket whose client has just gone takes nothing more; the application hears of it by itself."""
        with suppress(Disconnected):
            await super().handle_reply(protocol, message)

    def kill_all_applications(self) -> Any:
        """Daphne's: the end. It expects an application behind every connection, and requests have none."""
        for details in self.connections.values():
            details.setdefault("application_instance", _nothing_to_end())
        return super().kill_all_applications()


def _taken_body(request: BoundedRequest, headers: list[tuple[bytes, bytes]]) -> BinaryIO:
    """The file of the body; daphne, left with an empty one, sends no copy of it. A chunked body gets the length it had."""
    body: BinaryIO = request.content
    request.content = BytesIO()
    if not any(name == b"content-length" for name, _ in headers):
        headers[:] = [(name, value) for name, value in headers if name != b"transfer-encoding"]
        headers.append((b"content-length", str(body.seek(0, os.SEEK_END)).encode()))
        body.seek(0)
    return body


def _nothing_to_end() -> asyncio.Future[None]:
    done: asyncio.Future[None] = asyncio.get_event_loop().create_future()
    done.set_result(None)
    return done


def load() -> None:
    """What the first request would load: all views. Not yet the application, which looks at the static files when it is made."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "workflowsite.settings")
    django.setup(set_prefix=False)
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

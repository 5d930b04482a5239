"""Django's ASGI handler, taking a request's body as a file where the server (`workflowsite.web`) has one, without a copy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from django.core.handlers.asgi import ASGIHandler

#: The key of the body's file among the extensions of a scope.
BODY = "workflow.body"

Receive = Callable[[], Awaitable[Any]]


class _ReceiveWithBody:
    """ASGI's `receive`, carrying the file that holds the body already."""

    def __init__(self, receive: Receive, body: Any) -> None:
        self._receive = receive
        self.body = body

    async def __call__(self) -> Any:
        return await self._receive()


class FileBodyHandler(ASGIHandler):
    """Reads bodies from the server's file; from messages when there is none."""

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Any) -> None:
        body = scope.get("extensions", {}).get(BODY)
        await super().__call__(scope, receive if body is None else _ReceiveWithBody(receive, body), send)

    async def read_body(self, receive: Receive) -> Any:
        """The body as a file at its beginning."""
        if not isinstance(receive, _ReceiveWithBody):
            return await super().read_body(receive)
        await receive()  # the message of the empty body that stands for it
        return receive.body

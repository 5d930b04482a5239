"""An ASGI application that shows what the web server hands over and how far it lets an answer run ahead of its reader."""

from __future__ import annotations

import hashlib
import json
import resource
from contextvars import ContextVar
from typing import Any

from workflowsite.handler import BODY

CHUNK = bytes(2**20)
sent = 0
sockets_outlived = 0
#: The request that a context belongs to.
owner: ContextVar[str] = ContextVar("owner", default="")


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """`/endless` streams until nobody reads; anything else tells of its request and of this process."""
    global sent
    if scope["type"] == "websocket":
        await _send_too_late(send)
        return
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    if scope["path"] == "/endless":
        sent = 0
        while True:
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
            sent += 1
    await send({"type": "http.response.body", "body": json.dumps(await _told(scope, receive)).encode()})


async def _send_too_late(send: Any) -> None:
    """What an application does that has not heard yet of its client's going."""
    global sockets_outlived
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": 4400})
    await send({"type": "websocket.send", "text": "late"})
    sockets_outlived += 1


async def _told(scope: dict[str, Any], receive: Any) -> dict[str, Any]:
    message = await receive()
    body, digest, size = scope["extensions"][BODY], hashlib.sha256(), 0
    inherited = owner.get()
    owner.set(scope["path"])
    while chunk := body.read(2**16):
        digest.update(chunk)
        size += len(chunk)
    return {
        "size": size,
        "inherited": inherited,
        "sha256": digest.hexdigest(),
        "headers": {name.decode(): value.decode() for name, value in scope["headers"]},
        "messages": [len(message["body"]), message["more_body"]],
        "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "sent": sent,
        "sockets_outlived": sockets_outlived,
    }

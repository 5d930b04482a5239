"""Websockets by Channels, the Origin check before everything; HTTP by Django on threads: `workflowsite.web` serves both on one port."""

from __future__ import annotations

import os
from typing import Any

import django
from channels.routing import ProtocolTypeRouter

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "workflowsite.settings")
django.setup(set_prefix=False)

from django.core.handlers.wsgi import WSGIHandler  # noqa: E402  (needs the settings)

from dashboard.routing import websocket  # noqa: E402  (needs the app registry)


class Site:
    """An ASGI application for websockets that has a WSGI application for HTTP."""

    def __init__(self, http: Any, websocket: Any) -> None:
        self.http = http
        self._sockets = ProtocolTypeRouter({"websocket": websocket})

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """A websocket."""
        await self._sockets(scope, receive, send)


application = Site(http=WSGIHandler(), websocket=websocket)

"""Websocket URLs. The socket itself checks Host, Origin and identity (`handshake.py`)."""

from __future__ import annotations

from channels.routing import URLRouter
from django.urls import path, re_path

from dashboard.consumers import LiveConsumer, NoSuchSocket

websocket = URLRouter([path("ws/ui", LiveConsumer.as_asgi()), re_path(r"", NoSuchSocket.as_asgi())])

"""HTTP by Django, websockets by Channels. The Origin check stands before everything on a websocket."""

from __future__ import annotations

import os

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "workflowsite.settings")
http = get_asgi_application()

from dashboard.routing import websocket  # noqa: E402  (needs the app registry)

application = ProtocolTypeRouter({"http": http, "websocket": websocket})

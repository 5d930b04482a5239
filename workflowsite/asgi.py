"""HTTP by Django, websockets by Channels. The Origin check stands before everything on a websocket."""

from __future__ import annotations

import os

import django
from channels.routing import ProtocolTypeRouter

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "workflowsite.settings")
django.setup(set_prefix=False)

from dashboard.routing import websocket  # noqa: E402  (needs the app registry)
from workflowsite.handler import FileBodyHandler  # noqa: E402

application = ProtocolTypeRouter({"http": FileBodyHandler(), "websocket": websocket})

"""What every page of the shell needs. Runs for the admin's and the API's pages as well, so nothing is read until it is shown."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import SimpleLazyObject

from dashboard.lists import running_count
from scheduling.models import User

MODES = ("dark", "light", "auto")
MODE_COOKIE = "color_mode"


def color_mode(request: HttpRequest) -> str:
    """dark unless the reader chose otherwise."""
    chosen = request.COOKIES.get(MODE_COOKIE, "")
    return chosen if chosen in MODES else MODES[0]


def shell(request: HttpRequest) -> dict[str, Any]:
    """Colour mode, navigation counts, and which kind of sign-in there is."""
    mode = color_mode(request)
    return {
        "color_mode": mode,
        "next_mode": MODES[(MODES.index(mode) + 1) % len(MODES)],
        "running_workflows": SimpleLazyObject(lambda: _running(request)),
        "trusts_user_id": settings.ENV.trust_user_header,
        "server_now": timezone.now(),
    }


def _running(request: HttpRequest) -> int:
    user = getattr(request, "user", None)
    return running_count(user) if isinstance(user, User) else 0

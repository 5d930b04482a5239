"""Who may open a socket. A browser sends cookies wherever it was led to: so a session counts only with our own Origin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http.cookie import parse_cookie
from django.http.request import validate_host

from dashboard.identity import user_by_header, user_by_session, user_by_token
from scheduling.errors import Invalid, PermissionRefused
from scheduling.models import User

DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class Refused(Exception):
    """The handshake is answered with 403."""


def user_of(scope: Mapping[str, Any]) -> User | None:
    """The user of a websocket's handshake; None when nobody is signed in. Raises Refused. Reads the database."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    check_host(headers.get("host", ""))
    origin = headers.get("origin")
    if origin is not None:
        check_origin(origin, headers.get("host", ""))
    try:
        user = user_by_header(headers.get("x-user-id")) or user_by_token(headers.get("authorization"))
    except (Invalid, PermissionRefused) as error:
        raise Refused(error.message) from error
    if user is not None:
        return user
    user = user_by_session(parse_cookie(headers.get("cookie", "")).get(settings.SESSION_COOKIE_NAME))
    if user is not None and origin is None:
        raise Refused("A session without an Origin.")
    return user


def check_host(host: str) -> None:
    """Django checks the Host of requests; a socket's is checked here, against pages of names that lead to this machine."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if not validate_host(name.lower().rstrip("."), settings.ALLOWED_HOSTS):
        raise Refused("Not a host of this server.")


def check_origin(origin: str, host: str) -> None:
    """Raise Refused unless the page comes from this host and port, or from an origin that the settings trust."""
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return
    try:
        parts = urlsplit(origin)
    except ValueError:
        raise Refused("The Origin is malformed.") from None
    port = DEFAULT_PORTS.get(parts.scheme)
    if port is None or parts.netloc.lower().removesuffix(port) != host.lower().removesuffix(port):
        raise Refused("The Origin is another host.")

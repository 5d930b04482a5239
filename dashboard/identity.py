"""Who speaks, on a page and on the socket: the trusted header, a token, or a session, in this order as in the API."""

from __future__ import annotations

from typing import cast

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest
from rest_framework.authtoken.models import Token

from scheduling.models import User
from scheduling.services.users import user_for_header

TOKEN_KEYWORD = "token"


def user_by_header(user_id: str | None) -> User | None:
    """The account that X-User-ID names, where the header is trusted. Raises Invalid, PermissionRefused."""
    return user_for_header(user_id) if user_id is not None and settings.ENV.trust_user_header else None


def user_by_token(authorization: str | None) -> User | None:
    """The account of `Authorization: Token <key>`; None for anything else, and for a key that is not known."""
    keyword, _, key = (authorization or "").partition(" ")
    if keyword.lower() != TOKEN_KEYWORD:
        return None
    token = Token.objects.select_related("user").filter(key=key.strip(), user__is_active=True).first()
    return cast("User", token.user) if token else None


def user_by_session(session_key: str | None) -> User | None:
    """The account signed in to a session, read afresh; None when there is none or it has ended."""
    if not session_key:
        return None
    request = HttpRequest()
    request.session = SessionStore(session_key)
    user = get_user(request)
    return user if isinstance(user, User) and user.is_active else None

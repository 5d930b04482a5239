"""Identity by the X-User-ID header, when it is trusted. Tokens and sessions are DRF's own."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.backends import RemoteUserBackend
from django.http import HttpRequest
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from scheduling.errors import Invalid, PermissionRefused
from scheduling.models import User
from scheduling.services.users import is_open, user_for_header

HEADER = "X-User-ID"


class HeaderBackend(RemoteUserBackend):
    """Accounts named by a trusted header or typed at sign-in: made on first sight, never of the staff, never with a password."""

    def authenticate(self, request: HttpRequest | None, remote_user: str | None = None, **credentials: Any) -> User | None:  # type: ignore[override]
        """The account; None when no id is given or ids are not trusted. Raises Invalid, PermissionRefused."""
        if remote_user is None or not settings.ENV.trust_user_header:
            return None
        return user_for_header(remote_user)

    def get_user(self, user_id: int) -> User | None:
        """The account of a session that was signed in without a password; None once that is no longer enough."""
        user = super().get_user(user_id)
        return user if user is not None and settings.ENV.trust_user_header and is_open(user) else None


class HeaderAuthentication(BaseAuthentication):
    """`X-User-ID: <user id>`, only where TRUST_USER_HEADER is on; elsewhere the header is not looked at."""

    def authenticate(self, request: Request) -> tuple[User, None] | None:
        """(user, None), None without a trusted header. Raises ParseError when malformed, PermissionDenied for closed accounts."""
        user_id = request.META.get("HTTP_X_USER_ID")
        if user_id is None or not settings.ENV.trust_user_header:
            return None
        try:
            user = HeaderBackend().authenticate(request._request, remote_user=user_id)
        except Invalid as error:
            raise exceptions.ParseError(f"{HEADER}: {error.message}") from error
        except PermissionRefused as error:
            raise exceptions.PermissionDenied(error.message) from error
        return (user, None) if user is not None else None

    def authenticate_header(self, request: Request) -> str:
        """The challenge of a 401; programs are asked for a token."""
        return "Token"

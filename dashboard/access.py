"""Pages need a user: the trusted header, a token or a session; everybody else is sent to the sign-in page."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, cast
from urllib.parse import urlencode

from django.conf import settings
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.utils.cache import patch_cache_control

from dashboard.identity import user_by_header, user_by_token
from scheduling.errors import Invalid, NotFound, PermissionRefused
from scheduling.models import User

View = Callable[..., HttpResponse]


def signed_in(view: View) -> View:
    """Call the view with a request whose `user` is a User. What is not there, or not theirs, is a 404 page."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        user = _user_of(request)
        if user is None:
            return _to_sign_in(request)
        request.user = user
        try:
            response = view(request, *args, **kwargs)
        except NotFound as error:
            raise Http404(error.message) from error
        # Neither a proxy nor the browser's store may show it to whoever comes next.
        patch_cache_control(response, private=True, no_cache=True)
        return response

    return guarded


def user_of(request: HttpRequest) -> User:
    """The user of a request inside a `signed_in` view."""
    return cast("User", request.user)


def wants_json(request: HttpRequest) -> bool:
    """Whether a script of ours asks, which shows the answer itself."""
    return request.headers.get("Accept", "").startswith("application/json")


def _user_of(request: HttpRequest) -> User | None:
    try:
        user = user_by_header(request.headers.get("X-User-ID")) or user_by_token(request.headers.get("Authorization"))
    except Invalid as error:
        raise SuspiciousOperation(error.message) from error
    except PermissionRefused as error:
        raise PermissionDenied(error.message) from error
    if user is not None:
        return user
    return request.user if request.user.is_authenticated else None


def _to_sign_in(request: HttpRequest) -> HttpResponse:
    if wants_json(request):
        return JsonResponse({"detail": "You are signed out."}, status=401)
    back = request.get_full_path() if request.method == "GET" else settings.LOGIN_REDIRECT_URL
    return redirect(f"{settings.LOGIN_URL}?{urlencode({'next': back})}")

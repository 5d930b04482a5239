"""Sign in and out. Where user ids are trusted a typed id is enough, never for staff or for an account with a password."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth import authenticate, login, logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from scheduling.errors import Invalid, PermissionRefused
from scheduling.models import User
from scheduling.services import demo

USER_ID_BACKEND = "scheduling.api.authentication.HeaderBackend"


@sensitive_post_parameters("password")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    """The sign-in page and its two forms: a user id, or a name and password."""
    back = _back(request)
    if request.method != "POST":
        return redirect(back) if request.user.is_authenticated else _page(request, back)
    return _by_password(request, back) if "password" in request.POST else _by_user_id(request, back)


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    """End the session."""
    logout(request)
    return redirect(settings.LOGIN_URL)


def _by_user_id(request: HttpRequest, back: str) -> HttpResponse:
    if not settings.ENV.trust_user_header:
        return _page(request, back, "This server asks for a password.", status=403)
    try:
        user = authenticate(request, remote_user=request.POST.get("user_id", "").strip())
    except Invalid as error:
        return _page(request, back, error.message, field="user_id", status=400)
    except PermissionRefused:
        return _page(request, back, "This account needs its password.", field="user_id", status=403)
    if not isinstance(user, User):
        return _page(request, back, "User ids are not accepted here.", field="user_id", status=403)
    login(request, user, backend=USER_ID_BACKEND)
    return redirect(back)


def _by_password(request: HttpRequest, back: str) -> HttpResponse:
    name, password = request.POST.get("username", ""), request.POST.get("password", "")
    user = None if "\0" in name + password else authenticate(request, username=name, password=password)
    if user is None:
        return _page(request, back, "Name and password do not match.", field="password", status=400)
    login(request, user)
    return redirect(back)


def _page(request: HttpRequest, back: str, error: str = "", field: str = "", status: int = 200) -> HttpResponse:
    typed = {name: request.POST.get(name, "") for name in ("user_id", "username")}
    context = {"back": back, "error": error, "error_field": field, "typed": typed, "demo_user": _demo_user()}
    return render(request, "dashboard/sign_in.html", context, status=status)


def _demo_user() -> str:
    """Whose the sample workflow is, where a typed id is enough to see it; "" where there is none."""
    return demo.USER_ID if settings.ENV.trust_user_header and demo.demo_exists() else ""


def _back(request: HttpRequest) -> str:
    back = request.POST.get("next") or request.GET.get("next") or ""
    safe = url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()}, require_https=request.is_secure())
    return back if safe else settings.LOGIN_REDIRECT_URL

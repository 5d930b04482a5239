"""What holds for every request: the host that it names, and a database that stays locked.

Inside the API the exception handler answers for the database.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.core.exceptions import DisallowedHost
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

from scheduling.api.exceptions import bad_request, busy_response

logger = logging.getLogger(__name__)

#: Balancers ask by address.
FOR_ANY_HOST = ("/healthz", "/readyz")
#: In place of a name that was not looked at; nothing is made of it.
NO_HOST = "probe"


class HostMiddleware:
    """Refuses a host that is not ours with one line in the log: anybody can send one, and it is no error here. Comes first."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """The answer, or 400."""
        if request.path_info in FOR_ANY_HOST:
            request.get_host = lambda: NO_HOST  # type: ignore[method-assign]  # of this request alone
            return self._get_response(request)
        try:
            request.get_host()
        except DisallowedHost as error:
            return _refused(request, error)
        return self._get_response(request)


def _refused(request: HttpRequest, error: DisallowedHost) -> HttpResponse:
    named = request.META.get("HTTP_HOST", "")[:200]
    logger.info("refused a request for the host %r", named, extra={"action": "host_refused", "host": named})
    response = bad_request(request, error)
    response._has_been_logged = True  # type: ignore[attr-defined]  # Django's own mark
    return response


class DatabaseBusyMiddleware(MiddlewareMixin):
    """Turns the database's refusals raised by a view into 503 with Retry-After."""

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """The answer for a database error; None for anything else."""
        if not isinstance(error, (OperationalError, InterfaceError)):
            return None
        logger.warning("the database did not answer: %s", error, extra={"action": "database_busy"})
        return busy_response(request)

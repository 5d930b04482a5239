"""One answer for each kind of refusal: `{"detail": …}` or `{field: [messages]}`, never a 500 for what a client sent."""

from __future__ import annotations

import errno
import logging
import re
import sys
from typing import Any

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseServerError, JsonResponse
from django.http.multipartparser import MultiPartParserError
from django.http.request import UnreadablePostError
from django.template.loader import render_to_string
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import exception_handler

from scheduling import errors

logger = logging.getLogger(__name__)

BUSY = "The database is busy. Please try again."
BUSY_RETRY_S = 2
NOT_YET_RETRY_S = 2

_STATUS: tuple[tuple[type[errors.SchedulingError], int], ...] = (
    (errors.Invalid, status.HTTP_400_BAD_REQUEST),
    (errors.PermissionRefused, status.HTTP_403_FORBIDDEN),
    (errors.NotFound, status.HTTP_404_NOT_FOUND),
    (errors.Conflict, status.HTTP_409_CONFLICT),
    (errors.TooLarge, status.HTTP_413_REQUEST_ENTITY_TOO_LARGE),
    (errors.KeyReused, status.HTTP_422_UNPROCESSABLE_ENTITY),
)
_INDEXED = re.compile(r"(\w+)\[(\d+)\]\Z")


class Problem(exceptions.APIException):
    """A refusal with its own status; `wait` in seconds becomes Retry-After."""

    def __init__(self, detail: Any, status_code: int, wait: int | None = None) -> None:
        super().__init__(detail)
        self.status_code = status_code
        self.wait = wait


class BodyTooLarge(exceptions.APIException):
    """The body of a JSON request is longer than this server reads."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = "The body is too large."


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's hook: the response for an exception, None to let it through."""
    problem = translate(error)
    response = exception_handler(problem, context)
    if response is not None:
        response.data = _shaped(response.data)
    return response


def translate(error: Exception) -> Exception:
    """The API's exception for one of the domain, of Django or of the database; others unchanged."""
    if isinstance(error, errors.SchedulingError):
        return _domain(error)
    if isinstance(error, (OperationalError, InterfaceError)):
        logger.warning("the database did not answer: %s", error, extra={"action": "database_busy"})
        return Problem(BUSY, status.HTTP_503_SERVICE_UNAVAILABLE, BUSY_RETRY_S)
    if isinstance(error, RequestDataTooBig):
        return BodyTooLarge()
    if isinstance(error, (SuspiciousOperation, MultiPartParserError, UnreadablePostError)):
        return exceptions.ParseError(str(error) or None)
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Problem("The server's disk is full.", status.HTTP_507_INSUFFICIENT_STORAGE)
    return error


def _domain(error: errors.SchedulingError) -> Problem:
    code = next((code for kind, code in _STATUS if isinstance(error, kind)), status.HTTP_400_BAD_REQUEST)
    wait = NOT_YET_RETRY_S if isinstance(error, errors.NotYet) else None
    return Problem(_at(error.field, error.message) if error.field else error.message, code, wait)


def _at(field: str, message: str) -> dict[str, Any]:
    """`jobs[1].slide` as the serializers write it: {"jobs": [{}, {"slide": [message]}]}."""
    found: Any = [message]
    for part in reversed(field.split(".")):
        indexed = _INDEXED.match(part)
        found = {indexed[1]: [{} for _ in range(int(indexed[2]))] + [found]} if indexed else {part: found}
    return dict(found)


def _shaped(data: Any) -> Any:
    """Errors of a whole object stand where the object stands, those of a list's entries at their places; the body's are `detail`."""
    if isinstance(data, list):
        return {"detail": " ".join(str(message) for message in data)}
    if isinstance(data, dict) and "non_field_errors" in data:
        return {"detail": " ".join(str(message) for message in data["non_field_errors"])}
    return {key: _nested(value) for key, value in data.items()}


def _nested(value: Any) -> Any:
    if isinstance(value, list):
        return [_nested(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"non_field_errors"}:
        return value["non_field_errors"]
    if value and all(isinstance(key, int) for key in value):
        return [_nested(value.get(index, {})) for index in range(max(value) + 1)]
    return {key: _nested(entry) for key, entry in value.items()}


def busy_response(request: HttpRequest) -> HttpResponse:
    """503 with Retry-After, for pages in plain text and for programs in JSON."""
    headers = {"Retry-After": str(BUSY_RETRY_S)}
    if is_page(request):
        return HttpResponse(BUSY, status=503, headers=headers, content_type="text/plain; charset=utf-8")
    return JsonResponse({"detail": BUSY}, status=503, headers=headers)


def is_page(request: HttpRequest) -> bool:
    """Whether a person, not a program, reads the answer."""
    return request.path.startswith(("/ui", "/admin"))


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler400: a host that is not ours, or what else no view has seen."""
    return _refused(request, 400, "Bad request.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler404: outside the API's roots, and not for a person, in the API's words."""
    return _refused(request, 404, "Not found.")


def _refused(request: HttpRequest, status_code: int, detail: str) -> HttpResponse:
    if is_page(request) or "text/html" in request.headers.get("Accept", ""):
        return HttpResponse(render_to_string(f"{status_code}.html", request=request), status=status_code)
    return JsonResponse({"detail": detail}, status=status_code)


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500; a database that stayed locked below the views (in a middleware) is not our error but 503."""
    if isinstance(sys.exc_info()[1], (OperationalError, InterfaceError)):
        return busy_response(request)
    if is_page(request):
        return HttpResponseServerError(render_to_string("500.html"))
    return JsonResponse({"detail": "Something went wrong here. It has been logged."}, status=500)

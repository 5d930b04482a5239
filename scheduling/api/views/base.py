"""What the views share: the signed-in user, whole bodies only, pages, and the documents of refusals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from django.db.models import Model, QuerySet
from django.http import HttpRequest
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework import status, viewsets
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response

from scheduling.api.bodies import ErrorBody
from scheduling.api.exceptions import Problem
from scheduling.api.parsing import StrictJSONParser
from scheduling.models import User

M = TypeVar("M", bound=Model)

_REFUSALS = {
    400: "Malformed: `{field: [messages]}` or `{detail}`.",
    401: "Not signed in.",
    403: "This account may not.",
    404: "Not there, or another user's.",
    409: "The present state does not allow it.",
    413: "Too large.",
    415: "Another content type is needed.",
    416: "The range is outside the file.",
    422: "The Idempotency-Key was used with another body.",
    429: "Rate limit exceeded; `Retry-After` in seconds.",
    503: "The database is busy; `Retry-After` in seconds.",
}

WORKFLOW_ID = OpenApiParameter("workflow_id", OpenApiTypes.UUID, OpenApiParameter.PATH)
JOB_ID = OpenApiParameter("job_id", OpenApiTypes.STR, OpenApiParameter.PATH)
ANNOTATION_ID = OpenApiParameter("annotation_id", OpenApiTypes.UUID, OpenApiParameter.PATH)
SLIDE_ID = OpenApiParameter("slide_id", OpenApiTypes.UUID, OpenApiParameter.PATH)


def refusals(*codes: int) -> dict[int, OpenApiResponse]:
    """Documents of the refusals that a call can give, beside those of every call."""
    return {code: OpenApiResponse(ErrorBody, _REFUSALS[code]) for code in sorted({401, 403, 503, *codes})}


class Resource(viewsets.ViewSet):
    """A set of views for a signed-in user."""

    parser_classes: Sequence[Any] = (StrictJSONParser,)
    #: Of those that list by pages.
    pagination_class: type[CursorPagination] | None = None
    #: Set by a view that answers with a page; the browsable pages show its controls.
    paginator: CursorPagination | None = None

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        """Refuse a body of unknown length: it would be taken for an empty one."""
        wrapped = super().initialize_request(request, *args, **kwargs)
        self.is_length_missing = "HTTP_TRANSFER_ENCODING" in request.META and not request.META.get("CONTENT_LENGTH")
        return wrapped

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """As DRF's, after the check of the length."""
        if self.is_length_missing:
            raise Problem("Content-Length is needed.", status.HTTP_411_LENGTH_REQUIRED)
        super().initial(request, *args, **kwargs)

    @property
    def user(self) -> User:
        """Who asks."""
        return cast("User", self.request.user)

    def page(self, rows: QuerySet[M], bodies: Callable[[Sequence[M]], list[dict[str, Any]]]) -> Response:
        """One page of a list."""
        assert self.pagination_class is not None
        self.paginator = self.pagination_class()
        found = cast("list[M]", self.paginator.paginate_queryset(rows, self.request, view=self))
        return self.paginator.get_paginated_response(bodies(found))

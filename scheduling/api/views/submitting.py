"""What the calls that submit work share: a token for each, an answer given once for each Idempotency-Key."""

from __future__ import annotations

from typing import Generic, TypeVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

from scheduling.api.serializers import idempotency_key
from scheduling.api.throttling import RateLimited, TokenBucketThrottle
from scheduling.api.views.base import Resource
from scheduling.services.workflows import Idempotency

A = TypeVar("A")

KEY = OpenApiParameter(
    "Idempotency-Key",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="1 to 255 visible ASCII characters. The same key and body within 24 hours give the first answer again, and take no token.",
)


class Submitting(Resource, Generic[A]):
    """A resource whose `create` takes a token, but none for the repetition of an answered request."""

    throttle_classes = (TokenBucketThrottle,)
    idempotency: Idempotency | None = None
    #: The first answer to the key of this request.
    answered: A | None = None

    def first_answer(self, idempotency: Idempotency) -> A | None:
        """What the key was answered with within 24 hours; None when it was not used. Raises KeyReused when the body differs."""
        raise NotImplementedError

    def check_throttles(self, request: Request) -> None:
        """Only POST is limited."""
        if self.action != "create":
            return
        if "Idempotency-Key" in request.headers:
            self._find_first_answer(request)
        if self.answered is None:
            super().check_throttles(request)

    def throttled(self, request: Request, wait: float | None) -> None:  # type: ignore[override]
        """429."""
        raise RateLimited(wait)

    def _find_first_answer(self, request: Request) -> None:
        key = idempotency_key(request.headers["Idempotency-Key"])
        request.data  # noqa: B018  (reads the body, whose digest the parser leaves on the request)
        self.idempotency = Idempotency(key=key, body_sha256=getattr(request, "body_sha256", ""))
        self.answered = self.first_answer(self.idempotency)

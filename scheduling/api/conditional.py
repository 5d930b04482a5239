"""Answers that a browser keeps: for ever when their address pins them, else until their ETag has changed; gzip where it is taken."""

from __future__ import annotations

import gzip
import re

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.cache import get_conditional_response, patch_vary_headers

IMMUTABLE = "private, max-age=31536000, immutable"
_TAKES_GZIP = re.compile(r"(?:^|,)\s*(?:gzip|\*)\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[^,]*)?(?:,|$)", re.IGNORECASE)
#: Below it the header costs what it saves.
_LEAST_BYTES = 400


def weak_etag(token: str) -> str:
    """Weak, since packed and unpacked bytes share it."""
    return f'W/"{token}"'


def unchanged(request: HttpRequest, token: str) -> HttpResponseBase | None:
    """304 when the client has what `token` names."""
    response = get_conditional_response(request, etag=weak_etag(token))
    return response if response is not None and response.status_code == 304 else None


def kept(response: HttpResponseBase, token: str, *, is_pinned: bool) -> HttpResponseBase:
    """With its ETag, and how long it is good for. No cache that users share may keep it."""
    response["ETag"] = weak_etag(token)
    response["Cache-Control"] = IMMUTABLE if is_pinned else "private, no-cache"
    return response


def packed(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """The response by gzip if the client takes that and it pays; the same bytes give the same bytes."""
    patch_vary_headers(response, ["Accept-Encoding"])
    if len(response.content) >= _LEAST_BYTES and _TAKES_GZIP.search(request.headers.get("Accept-Encoding", "")):
        response.content = gzip.compress(response.content, 5, mtime=0)
        response["Content-Encoding"] = "gzip"
        response["Content-Length"] = str(len(response.content))
    return response

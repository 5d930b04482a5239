"""The API's documents: OpenAPI, Swagger UI and ReDoc, from this server alone.

Both viewers write styles as they go, so the content security policy allows inline styles on these two pages and nowhere else.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import drf_spectacular_sidecar
from csp.decorators import csp_update
from django.http import HttpResponse, HttpResponseBase
from django.utils.decorators import method_decorator
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularRedocView, SpectacularSwaggerSplitView
from rest_framework.request import Request

_REDOC_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"

#: Their one renderer needs a template, which DRF's answer to OPTIONS has not.
PAGE_METHODS = ["get", "head"]

_INLINE_STYLES = csp_update({"style-src": ["'unsafe-inline'"]})
_INLINE_STYLES_AND_WORKER = csp_update({"style-src": ["'unsafe-inline'"], "worker-src": ["blob:"]})


class SchemaView(SpectacularAPIView):
    """OpenAPI 3, YAML or (`?format=json`) JSON."""

    authentication_classes = ()
    permission_classes = ()


@method_decorator(_INLINE_STYLES, name="dispatch")
class SwaggerView(SpectacularSwaggerSplitView):
    """Swagger UI; "Authorize" takes an X-User-ID or a token."""

    authentication_classes = ()
    permission_classes = ()
    url_name = "api:schema"
    http_method_names = PAGE_METHODS


@method_decorator(_INLINE_STYLES_AND_WORKER, name="dispatch")
class RedocView(SpectacularRedocView):
    """ReDoc; its script is served from here as well, without the logo that it would fetch from its maker."""

    authentication_classes = ()
    permission_classes = ()
    url_name = "api:schema"
    http_method_names = PAGE_METHODS

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """The page, or with `?script` the script."""
        if "script" not in request.query_params:
            page: HttpResponseBase = super().get(request, *args, **kwargs)  # type: ignore[no-untyped-call]
            return page
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return HttpResponse(redoc_script(), content_type="text/javascript; charset=utf-8", headers=headers)

    @staticmethod
    def _redoc_standalone() -> str:
        return f"?script={version('drf-spectacular-sidecar')}"


@cache
def redoc_script() -> bytes:
    """The sidecar's script, asking no other host for anything."""
    root = Path(drf_spectacular_sidecar.__file__).parent / "static" / "drf_spectacular_sidecar"
    return (root / "redoc" / "bundles" / "redoc.standalone.js").read_bytes().replace(_REDOC_LOGO, b"data:,")

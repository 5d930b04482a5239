"""The API's documents: OpenAPI, Swagger UI and ReDoc, from this server alone.

Both viewers write styles as they go, so the content security policy allows inline styles on these two pages and nowhere else.
"""

from __future__ import annotations

from csp.decorators import csp_update
from django.utils.decorators import method_decorator
from drf_spectacular.views import SpectacularAPIView, SpectacularRedocView, SpectacularSwaggerSplitView

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


@method_decorator(_INLINE_STYLES_AND_WORKER, name="dispatch")
class RedocView(SpectacularRedocView):
    """ReDoc."""

    authentication_classes = ()
    permission_classes = ()
    url_name = "api:schema"

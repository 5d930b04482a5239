"""What the generator of the API's schema cannot see by itself. Imported with the routes."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema

from scheduling.api.authentication import HEADER


class HeaderScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The header in the API's schema, so that Swagger UI asks for it."""

    target_class = "scheduling.api.authentication.HeaderAuthentication"
    name = "X-User-ID"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        """An apiKey in a header."""
        return {
            "type": "apiKey",
            "in": "header",
            "name": HEADER,
            "description": "A user id of 1 to 128 characters of A-Z a-z 0-9 . _ @ -; accepted where TRUST_USER_HEADER is on.",
        }


def add_summaries(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """A postprocessing hook: the first sentence of each description is the title that Swagger UI and ReDoc show."""
    for item in result["paths"].values():
        for operation in item.values():
            operation.setdefault("summary", operation.get("description", "").split(". ")[0].rstrip("."))
    return result

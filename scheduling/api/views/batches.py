"""One workflow for each of many slides, in one call."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from scheduling.api.bodies import BatchBody, NoBatchBody
from scheduling.api.serializers import BatchSerializer, batch_request
from scheduling.api.views.base import refusals
from scheduling.api.views.submitting import KEY, Submitting
from scheduling.services import batches as services
from scheduling.services.workflows import Idempotency

_TEMPLATE = {
    "jobs": [
        {"job_id": "tissue", "branch": "main", "job_type": "TISSUE_MASK"},
        {"job_id": "cells", "branch": "main", "job_type": "SEGMENT_CELLS"},
    ]
}
_SLIDES = OpenApiExample(
    "Some slides",
    {"template": _TEMPLATE, "slides": ["9d2fdb1a-3f5a-4e99-8732-13418e015e19"], "name": "Study 7, {slide}"},
    request_only=True,
)
_FOLDER = OpenApiExample(
    "A folder",
    {"template": _TEMPLATE, "folder": "study-7", "recursive": True, "pattern": "*.svs", "name": "{n} {slide}"},
    request_only=True,
)
_MADE = OpenApiExample(
    "One made, one not",
    {
        "workflows": [
            {
                "slide_id": "9d2fdb1a-3f5a-4e99-8732-13418e015e19",
                "name": "1 liver.svs",
                "workflow_id": "0b7a2f0e-6c1d-4a53-9c0c-6a7f3f1c2d11",
            }
        ],
        "errors": [{"path": "study-7/broken.svs", "field": "path", "detail": "The file is no slide that can be read."}],
    },
    response_only=True,
    status_codes=["201"],
)


class BatchViewSet(Submitting[services.Answer]):
    """Batches of workflows."""

    def first_answer(self, idempotency: Idempotency) -> services.Answer | None:
        """What the batch with this key was answered."""
        return services.batch_replay(user=self.user, idempotency=idempotency)

    @extend_schema(
        operation_id="workflow_batch",
        request=BatchSerializer,
        parameters=[KEY],
        responses={201: BatchBody, **refusals(413, 415, 422, 429), 400: OpenApiResponse(NoBatchBody, "Malformed, or no slide fits.")},
        examples=[_SLIDES, _FOLDER, _MADE],
    )
    def create(self, request: Request) -> Response:
        """Submit one workflow for each of many slides, in their order; what is wrong with a slide stops no other."""
        answer = self.answered or services.batch_submit(user=self.user, request=batch_request(request.data), idempotency=self.idempotency)
        if not answer["workflows"]:
            return Response({"detail": "No workflow could be made.", "errors": answer["errors"]}, status=400)
        return Response(answer, status=201)

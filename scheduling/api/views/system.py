"""The queue, the job types, health and metrics, and what is not there."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from prometheus_client import CONTENT_TYPE_LATEST
from rest_framework import exceptions
from rest_framework.permissions import AllowAny
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from scheduling.api import metrics
from scheduling.api.system_bodies import HealthBody, JobTypeBody, ModelBody, QueueBody, ReadyBody
from scheduling.api.views.base import Resource, refusals
from scheduling.jobtypes import registry
from scheduling.selectors.health import readiness
from scheduling.selectors.installed import model_bodies
from scheduling.selectors.queue import queue_body

_NOT_READY = OpenApiExample(
    "Not ready",
    {
        "status": "unavailable",
        "down": ["workers"],
        "checks": {"database": "ok", "redis": "ok", "scheduler": "ok", "workers": "down", "disk": "ok"},
    },
    response_only=True,
    status_codes=["503"],
)


class QueueViewSet(Resource):
    """Who is active, who waits, and the workers."""

    @extend_schema(operation_id="queue_read", tags=["system"], responses={200: QueueBody, **refusals()})
    def retrieve(self, request: Request) -> Response:
        """Active and waiting users, other users without their names, and the live workers; for the staff also what files take."""
        return Response(queue_body(self.user))


class JobTypeViewSet(Resource):
    """The kinds of jobs."""

    @extend_schema(operation_id="job_type_list", tags=["system"], responses={200: JobTypeBody(many=True), **refusals()})
    def list(self, request: Request) -> Response:
        """All job types, each with the JSON schema of its parameters."""
        return Response(registry.describe())


class ModelViewSet(Resource):
    """Models for INSTANSEG_WSI."""

    @extend_schema(operation_id="model_list", tags=["system"], responses={200: ModelBody(many=True), **refusals()})
    def list(self, request: Request) -> Response:
        """The installed models by name, of each name the newest first; an empty list when the operator has installed none."""
        return Response(model_bodies())


class Open(APIView):
    """A view for everybody; no identity is looked at."""

    authentication_classes = ()
    permission_classes = (AllowAny,)


class HealthView(Open):
    """Whether the web process lives."""

    renderer_classes = (JSONRenderer,)

    @extend_schema(operation_id="healthz", tags=["system"], auth=[], responses={200: HealthBody})
    def get(self, request: Request) -> Response:
        """Always 200 while the process answers; looks at nothing else."""
        return Response({"status": "ok"})


class ReadyView(Open):
    """Whether work can be done."""

    renderer_classes = (JSONRenderer,)

    @extend_schema(operation_id="readyz", tags=["system"], auth=[], responses={200: ReadyBody, 503: ReadyBody}, examples=[_NOT_READY])
    def get(self, request: Request) -> Response:
        """200, or 503 with which of database, redis, scheduler and workers is down, or `disk` with less than 1 GB free."""
        parts = readiness()
        down = [part for part, is_up in parts.items() if not is_up]
        checks = {part: "ok" if is_up else "down" for part, is_up in parts.items()}
        body = {"status": "unavailable" if down else "ok", "down": down, "checks": checks}
        return Response(body, status=503 if down else 200)


class MetricsView(Open):
    """Figures for Prometheus."""

    @extend_schema(
        operation_id="metrics",
        tags=["system"],
        auth=[],
        responses={(200, "text/plain"): OpenApiResponse(OpenApiTypes.STR, "Text format 0.0.4.")},
    )
    def get(self, request: Request) -> HttpResponse:
        """Jobs, workflows, users, workers, and counters of the engine and of this process."""
        return HttpResponse(metrics.text(), content_type=CONTENT_TYPE_LATEST)

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """Scrapers name media types that no renderer has; the text is all there is."""
        return super().perform_content_negotiation(request, force=True)


class MissingView(Open):
    """What is under the API's roots and is no call of it."""

    @extend_schema(exclude=True)
    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """404 for every method."""
        return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse."""
        super().initial(request, *args, **kwargs)
        raise exceptions.NotFound

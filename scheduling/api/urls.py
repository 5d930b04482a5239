"""Routes of the API. No trailing slashes; whatever else is under these roots is a 404 in JSON."""

from __future__ import annotations

from typing import Any

from django.urls import path, re_path, register_converter
from django.urls.converters import IntConverter

from scheduling.api import openapi  # noqa: F401  (registers the header's security scheme)
from scheduling.api.views.annotations import AnnotationViewSet
from scheduling.api.views.batches import BatchViewSet
from scheduling.api.views.documents import RedocView, SchemaView, SwaggerView
from scheduling.api.views.overlays import CellTileViewSet
from scheduling.api.views.roots import SlideRootViewSet
from scheduling.api.views.slides import SlideViewSet
from scheduling.api.views.system import HealthView, JobTypeViewSet, MetricsView, MissingView, ModelViewSet, QueueViewSet, ReadyView
from scheduling.api.views.workflows import JobViewSet, WorkflowViewSet


class NameConverter:
    """A job_id or the name of an artifact."""

    regex = r"[A-Za-z0-9._-]{1,128}"

    def to_python(self, value: str) -> str:
        """Unchanged."""
        return value

    def to_url(self, value: Any) -> str:
        """Unchanged."""
        return str(value)


class IndexConverter(IntConverter):
    """A level, column or row."""

    regex = "[0-9]{1,9}"


register_converter(NameConverter, "name")
register_converter(IndexConverter, "index")

app_name = "api"
_ANNOTATIONS = "slide/<str:slide_id>/annotation"
_JOB = "workflow/<str:workflow_id>/job/<name:job_id>"

urlpatterns = [
    path("workflow", WorkflowViewSet.as_view({"get": "list", "post": "create"}), name="workflows"),
    path("workflow/batch", BatchViewSet.as_view({"post": "create"}), name="workflow-batch"),
    path("workflow/<str:workflow_id>", WorkflowViewSet.as_view({"get": "retrieve", "delete": "destroy"}), name="workflow"),
    path("workflow/<str:workflow_id>/cancel", WorkflowViewSet.as_view({"post": "cancel"}), name="workflow-cancel"),
    path("workflow/<str:workflow_id>/retry", WorkflowViewSet.as_view({"post": "retry"}), name="workflow-retry"),
    path("workflow/<str:workflow_id>/pause", WorkflowViewSet.as_view({"post": "pause"}), name="workflow-pause"),
    path("workflow/<str:workflow_id>/resume", WorkflowViewSet.as_view({"post": "resume"}), name="workflow-resume"),
    path("workflow/<str:workflow_id>/events", WorkflowViewSet.as_view({"get": "events"}), name="workflow-events"),
    path(f"{_JOB}/cancel", JobViewSet.as_view({"post": "cancel"}), name="job-cancel"),
    path(f"{_JOB}/retry", JobViewSet.as_view({"post": "retry"}), name="job-retry"),
    path(f"{_JOB}/results", JobViewSet.as_view({"get": "results"}), name="results"),
    path(f"{_JOB}/results/<name:name>", JobViewSet.as_view({"get": "result"}), name="artifact"),
    path(f"{_JOB}/tiles", CellTileViewSet.as_view({"get": "manifest"}), name="cell-tiles"),
    path(f"{_JOB}/tiles/<index:index>", CellTileViewSet.as_view({"get": "vector"}), name="cell-tile"),
    path(f"{_JOB}/overlay/<index:level>/<index:column>_<index:row>", CellTileViewSet.as_view({"get": "picture"}), name="overlay-tile"),
    path("slide", SlideViewSet.as_view({"get": "list", "post": "create"}), name="slides"),
    path("slide/<str:slide_id>", SlideViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}), name="slide"),
    path("slide/<str:slide_id>/thumbnail", SlideViewSet.as_view({"get": "thumbnail"}), name="slide-thumbnail"),
    path("slide/<str:slide_id>/tile/<index:level>/<index:column>_<index:row>", SlideViewSet.as_view({"get": "tile"}), name="slide-tile"),
    path(_ANNOTATIONS, AnnotationViewSet.as_view({"get": "list", "post": "create"}), name="annotations"),
    path(f"{_ANNOTATIONS}/<str:annotation_id>", AnnotationViewSet.as_view({"get": "retrieve", "delete": "destroy"}), name="annotation"),
    path(f"{_ANNOTATIONS}/<str:annotation_id>/geojson", AnnotationViewSet.as_view({"get": "geojson"}), name="annotation-geojson"),
    path("slide-root", SlideRootViewSet.as_view({"get": "list"}), name="slide-roots"),
    path("slide-root/<name:root>", SlideRootViewSet.as_view({"get": "retrieve"}), name="slide-root"),
    path("queue", QueueViewSet.as_view({"get": "retrieve"}), name="queue"),
    path("job-types", JobTypeViewSet.as_view({"get": "list"}), name="job-types"),
    path("model", ModelViewSet.as_view({"get": "list"}), name="models"),
    path("healthz", HealthView.as_view(), name="healthz"),
    path("readyz", ReadyView.as_view(), name="readyz"),
    path("metrics", MetricsView.as_view(), name="metrics"),
    path("schema", SchemaView.as_view(), name="schema"),
    path("docs", SwaggerView.as_view(), name="docs"),
    path("redoc", RedocView.as_view(), name="redoc"),
    re_path(r"^(?:workflow|slide|slide-root|queue|job-types|model|healthz|readyz|metrics|schema|docs|redoc)/", MissingView.as_view()),
]

"""Annotations of a slide: drawn in QuPath or elsewhere, sent as GeoJSON, given to jobs as their mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from scheduling.api.bodies import AnnotationBody
from scheduling.api.downloads import file_response
from scheduling.api.pagination import NewestFirstByTime
from scheduling.api.parsing import Drawn, GeoJSONParser, GeoJSONUploadHandler, PlainGeoJSONParser, ZippedGeoJSONParser, refuse_fields
from scheduling.api.serializers import AnnotationNameSerializer, SlideUploadSerializer
from scheduling.api.views.base import ANNOTATION_ID, SLIDE_ID, Resource, refusals
from scheduling.models import Annotation, Slide
from scheduling.selectors import annotations as selectors
from scheduling.selectors import slides
from scheduling.services import annotations as services

_NAME = OpenApiParameter("name", OpenApiTypes.STR, description="At most 255 characters; the name of the file, or Annotation, if left out.")
_DRAWN = OpenApiExample(
    "As QuPath exports it",
    {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [[[100, 100], [9000, 100], [9000, 7000], [100, 100]]]},
                "properties": {"objectType": "annotation", "classification": {"name": "Tissue", "color": [0, 150, 0]}},
            }
        ],
    },
    request_only=True,
)


class AnnotationViewSet(Resource):
    """Areas drawn on a slide of the user."""

    parser_classes: Sequence[Any] = (GeoJSONParser, PlainGeoJSONParser, ZippedGeoJSONParser, MultiPartParser)
    pagination_class = NewestFirstByTime

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        """The handler must be there before anything, the CSRF check included, reads a form."""
        self._upload = GeoJSONUploadHandler(request)
        request.upload_handlers = [self._upload]
        return super().initialize_request(request, *args, **kwargs)

    @extend_schema(operation_id="annotation_list", parameters=[SLIDE_ID], responses={200: AnnotationBody(many=True), **refusals(400, 404)})
    def list(self, request: Request, slide_id: str) -> Response:
        """Annotations of a slide, newest first, at most 50 a page."""
        found = selectors.annotation_query(self._slide(slide_id))
        return self.page(found, lambda rows: [selectors.annotation_body(row) for row in rows])

    @extend_schema(
        operation_id="annotation_add",
        request={
            "application/geo+json": OpenApiTypes.OBJECT,
            "application/json": OpenApiTypes.OBJECT,
            "application/gzip": OpenApiTypes.BINARY,
            "multipart/form-data": SlideUploadSerializer,
        },
        parameters=[SLIDE_ID, _NAME],
        responses={201: AnnotationBody, **refusals(400, 404, 413, 415)},
        examples=[_DRAWN],
    )
    def create(self, request: Request, slide_id: str) -> Response:
        """Keep GeoJSON polygons of a slide, of at most 16 MiB, also gzipped, as the body or as the file of a form."""
        slide = self._slide(slide_id)
        named = AnnotationNameSerializer(data={key: value for key, value in request.query_params.items() if value})
        named.is_valid(raise_exception=True)
        drawn = self._drawn(request)
        name = named.validated_data.get("name") or self._upload.name or "Annotation"
        annotation = services.annotation_add(slide=slide, name=name, raw=drawn.raw, data=drawn.data, actor=self.user.username)
        location = request.build_absolute_uri(reverse("api:annotation", args=[slide_id, str(annotation.pk)]))
        return Response(selectors.annotation_body(annotation), status=201, headers={"Location": location})

    def _drawn(self, request: Request) -> Drawn:
        """What was sent. Raises Invalid for a form that is no upload of one file, and for no body at all."""
        if isinstance(request.data, Drawn):
            return request.data
        refuse_fields(request.data)
        return self._upload.drawn()

    @extend_schema(operation_id="annotation_read", parameters=[SLIDE_ID, ANNOTATION_ID], responses={200: AnnotationBody, **refusals(404)})
    def retrieve(self, request: Request, slide_id: str, annotation_id: str) -> Response:
        """An annotation."""
        return Response(selectors.annotation_body(self._annotation(slide_id, annotation_id)))

    @extend_schema(
        operation_id="annotation_geojson",
        parameters=[SLIDE_ID, ANNOTATION_ID],
        responses={(200, "application/geo+json"): OpenApiResponse(OpenApiTypes.BINARY, "The file."), **refusals(404, 416)},
    )
    def geojson(self, request: Request, slide_id: str, annotation_id: str) -> HttpResponseBase:
        """The GeoJSON as it was sent."""
        found = self._annotation(slide_id, annotation_id)
        name = f"annotation-{found.pk}.geojson"
        return file_response(request._request, settings.DATA_DIR / found.path, name=name, sha256=found.sha256)

    @extend_schema(operation_id="annotation_delete", parameters=[SLIDE_ID, ANNOTATION_ID], responses={204: None, **refusals(404, 409)})
    def destroy(self, request: Request, slide_id: str, annotation_id: str) -> Response:
        """Delete an annotation that no unfinished job uses."""
        services.annotation_delete(annotation=self._annotation(slide_id, annotation_id), actor=self.user.username)
        return Response(status=204)

    def _slide(self, slide_id: str) -> Slide:
        return slides.slide_get(user=self.user, slide_id=slide_id)

    def _annotation(self, slide_id: str, annotation_id: str) -> Annotation:
        return selectors.annotation_get(self._slide(slide_id), annotation_id)

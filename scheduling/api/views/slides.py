"""Slides and their pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import reverse
from django.utils.cache import get_conditional_response
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from scheduling.api.bodies import SlideBody
from scheduling.api.conditional import IMMUTABLE
from scheduling.api.pagination import NewestFirstByTime
from scheduling.api.parsing import SlideUploadHandler, StrictJSONParser, refuse_fields
from scheduling.api.serializers import PageFilter, SlideChangeSerializer, SlidePathSerializer, SlideUploadSerializer, filters, validated
from scheduling.api.views.base import SLIDE_ID, Resource, refusals
from scheduling.errors import Invalid, NotFound, UnreadableSlide
from scheduling.models import Slide
from scheduling.selectors import slides as selectors
from scheduling.services import slides as services

_JPEG = {(200, "image/jpeg"): OpenApiResponse(OpenApiTypes.BINARY, "The picture."), 304: OpenApiResponse(description="Unchanged.")}
_SEARCH = OpenApiParameter("search", OpenApiTypes.STR, description="Part of the name, or the slide_id.")


class SlideViewSet(Resource):
    """Whole-slide images of the user."""

    parser_classes: Sequence[Any] = (StrictJSONParser, MultiPartParser)
    pagination_class = NewestFirstByTime

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        """The handler must be there before anything, the CSRF check included, reads the form."""
        self._upload = SlideUploadHandler(request)
        request.upload_handlers = [self._upload]
        return super().initialize_request(request, *args, **kwargs)

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        """Whatever became of the request, what was not kept as a slide leaves nothing."""
        self._upload.discard()
        return super().finalize_response(request, response, *args, **kwargs)

    @extend_schema(operation_id="slide_list", parameters=[_SEARCH], responses={200: SlideBody(many=True), **refusals(400)})
    def list(self, request: Request) -> Response:
        """Own slides, newest first, at most 50 a page."""
        chosen = filters(PageFilter, request.query_params)
        return self.page(selectors.slide_query(user=self.user, **chosen), lambda slides: [selectors.slide_body(slide) for slide in slides])

    @extend_schema(
        operation_id="slide_add",
        request={"multipart/form-data": SlideUploadSerializer, "application/json": SlidePathSerializer},
        responses={201: SlideBody, **refusals(400, 413, 415)},
    )
    def create(self, request: Request) -> Response:
        """Upload a slide (one file, or a ZIP archive of a slide's files), or register one that lies under a root."""
        is_form = (request.content_type or "").lower().startswith("multipart/")
        slide = (
            self._uploaded(request) if is_form else services.slide_register(user=self.user, **validated(SlidePathSerializer, request.data))
        )
        location = request.build_absolute_uri(reverse("api:slide", args=[str(slide.pk)]))
        return Response(selectors.slide_body(slide), status=201, headers={"Location": location})

    def _uploaded(self, request: Request) -> Slide:
        refuse_fields(request.data)
        if self._upload.incoming is None:
            raise Invalid("A file is needed.", field="file")
        return services.slide_receive(user=self.user, incoming=self._upload.incoming)

    @extend_schema(operation_id="slide_read", parameters=[SLIDE_ID], responses={200: SlideBody, **refusals(404)})
    def retrieve(self, request: Request, slide_id: str) -> Response:
        """A slide."""
        return Response(selectors.slide_body(self._slide(slide_id)))

    @extend_schema(
        operation_id="slide_update",
        request=SlideChangeSerializer,
        parameters=[SLIDE_ID],
        responses={200: SlideBody, **refusals(400, 404, 409)},
    )
    def partial_update(self, request: Request, slide_id: str) -> Response:
        """State the microns per pixel; real jobs need them."""
        slide = self._slide(slide_id)
        return Response(selectors.slide_body(services.slide_update(slide=slide, **validated(SlideChangeSerializer, request.data))))

    @extend_schema(operation_id="slide_delete", parameters=[SLIDE_ID], responses={204: None, **refusals(404, 409)})
    def destroy(self, request: Request, slide_id: str) -> Response:
        """Delete a slide that no unfinished job uses; a registered file stays where it is."""
        services.slide_delete(slide=self._slide(slide_id), actor=self.user.username)
        return Response(status=204)

    @extend_schema(operation_id="slide_thumbnail", parameters=[SLIDE_ID], responses={**_JPEG, **refusals(404)})
    def thumbnail(self, request: Request, slide_id: str) -> HttpResponseBase:
        """The whole slide, its longer side at most 512 pixels. Label and macro images are never shown."""
        slide = self._slide(slide_id)
        return _picture(request, f"{slide.fingerprint[:32]}-thumbnail", lambda: selectors.slide_thumbnail(slide))

    @extend_schema(
        operation_id="slide_tile",
        parameters=[SLIDE_ID, *(OpenApiParameter(name, OpenApiTypes.INT, OpenApiParameter.PATH) for name in ("level", "column", "row"))],
        responses={**_JPEG, **refusals(404)},
    )
    def tile(self, request: Request, slide_id: str, level: int, column: int, row: int) -> HttpResponseBase:
        """One tile of `tile_px` pixels of a level of `levels`, 0 = full resolution."""
        slide = self._slide(slide_id)
        etag = f"{slide.fingerprint[:32]}-{level}-{column}-{row}"
        return _picture(request, etag, lambda: selectors.slide_tile(slide, level=level, column=column, row=row))

    def _slide(self, slide_id: str) -> Slide:
        return selectors.slide_get(user=self.user, slide_id=slide_id)


def _picture(request: Request, etag: str, draw: Callable[[], bytes]) -> HttpResponseBase:
    """A JPEG that a browser may keep for ever, but no cache that users share. Raises NotFound when the file is gone or broken."""
    quoted = f'"{etag}"'
    response = get_conditional_response(request._request, etag=quoted)
    if response is None or response.status_code != 304:
        try:
            response = HttpResponse(draw(), content_type="image/jpeg")
        except UnreadableSlide as error:
            raise NotFound(error.message) from error
    response["ETag"] = quoted
    response["Cache-Control"] = IMMUTABLE
    return response

"""The cells of a job over its slide, while it runs and afterwards: manifest, vector tiles, pictures."""

from __future__ import annotations

import hashlib

import orjson
from django.http import HttpResponse, HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request

from scheduling.api.bodies import CellTilesBody
from scheduling.api.conditional import kept, packed, unchanged
from scheduling.api.views.base import JOB_ID, WORKFLOW_ID, Resource, refusals
from scheduling.models import Job
from scheduling.selectors import overlays
from scheduling.selectors.workflows import job_get
from scheduling.viewer.vectortiles import MEDIA_TYPE

_UNCHANGED = OpenApiResponse(description="Unchanged.")
_PATH = {name: OpenApiParameter(name, OpenApiTypes.INT, OpenApiParameter.PATH) for name in ("index", "level", "column", "row")}
_V = OpenApiParameter(
    "v",
    OpenApiTypes.STR,
    description="What the client expects: the manifest's `version`, for a picture with its token. When it is right the answer is immutable.",
)


class CellTileViewSet(Resource):
    """The finished tiles of a segmentation, whatever state the job is in."""

    @extend_schema(
        operation_id="job_tiles", parameters=[WORKFLOW_ID, JOB_ID], responses={200: CellTilesBody, 304: _UNCHANGED, **refusals(404)}
    )
    def manifest(self, request: Request, workflow_id: str, job_id: str) -> HttpResponseBase:
        """Where the tiles of a segmentation lie on its slide and which are finished, for a viewer that lays its cells over the slide."""
        body = orjson.dumps(overlays.manifest(self._job(workflow_id, job_id)))
        token = hashlib.sha256(body).hexdigest()[:32]
        http = request._request
        response = unchanged(http, token) or packed(http, HttpResponse(body, content_type="application/json"))
        return kept(response, token, is_pinned=False)

    @extend_schema(
        operation_id="job_vector_tile",
        parameters=[WORKFLOW_ID, JOB_ID, _PATH["index"], _V],
        responses={
            (200, MEDIA_TYPE): OpenApiResponse(OpenApiTypes.BINARY, "The format is in docs/vector-tiles.md."),
            304: _UNCHANGED,
            **refusals(404),
        },
    )
    def vector(self, request: Request, workflow_id: str, job_id: str, index: int) -> HttpResponseBase:
        """The cells of one finished tile: outlines to the pixel, class, area. 404 with `Retry-After` while the tile is not finished."""
        version, read = overlays.vector_tile(self._job(workflow_id, job_id), index)
        http, token = request._request, f"{version}-{index}"
        response = unchanged(http, token) or packed(http, HttpResponse(read(), content_type=MEDIA_TYPE))
        return kept(response, token, is_pinned=request.query_params.get("v") == version)

    @extend_schema(
        operation_id="job_overlay_tile",
        parameters=[WORKFLOW_ID, JOB_ID, _PATH["level"], _PATH["column"], _PATH["row"], _V],
        responses={
            (200, "image/png"): OpenApiResponse(OpenApiTypes.BINARY, "Transparent where no cell is."),
            304: _UNCHANGED,
            **refusals(404),
        },
    )
    def picture(self, request: Request, workflow_id: str, job_id: str, level: int, column: int, row: int) -> HttpResponseBase:
        """The finished cells as a transparent picture over the slide's tile of the same place: outlines, and from afar their density."""
        token, draw = overlays.overlay_tile(self._job(workflow_id, job_id), level, column, row)
        wanted = request.query_params.get("v")
        response = unchanged(request._request, token)
        if response is None:
            made = draw()
            token, response = made.token, HttpResponse(made.png, content_type="image/png")
        return kept(response, token, is_pinned=wanted == token)

    def _job(self, workflow_id: str, job_id: str) -> Job:
        return job_get(user=self.user, workflow_uuid=workflow_id, job_id=job_id)

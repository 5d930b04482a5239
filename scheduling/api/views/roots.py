"""Folders of the server from which slides can be registered."""

from __future__ import annotations

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from scheduling.api.bodies import FolderBody, SlideRootBody
from scheduling.api.serializers import FolderSerializer
from scheduling.api.views.base import Resource, refusals
from scheduling.env import DEFAULT_ROOT
from scheduling.selectors import roots as selectors

_FOLDER = [
    OpenApiParameter("root", OpenApiTypes.STR, OpenApiParameter.PATH),
    OpenApiParameter("folder", OpenApiTypes.STR, description='Below the root; "" is the root itself.'),
    OpenApiParameter("after", OpenApiTypes.STR, description="Only names behind this one."),
    OpenApiParameter("limit", OpenApiTypes.INT, description="At most so many, 1 to 1,000; 200 if left out."),
]


class SlideRootViewSet(Resource):
    """Roots that the user's groups open. Nothing is ever written there."""

    @extend_schema(operation_id="slide_root_list", responses={200: SlideRootBody(many=True), **refusals()})
    def list(self, request: Request) -> Response:
        """Roots whose slides the user may register, not paged."""
        return Response([{"name": name, "is_default": name == DEFAULT_ROOT} for name in selectors.roots_for(self.user)])

    @extend_schema(operation_id="slide_root_read", parameters=_FOLDER, responses={200: FolderBody, **refusals(400, 404)})
    def retrieve(self, request: Request, root: str) -> Response:
        """Folders and slide files in a folder of a root, by name."""
        asked = FolderSerializer(data=request.query_params.dict())
        asked.is_valid(raise_exception=True)
        return Response(selectors.folder_read(user=self.user, root=root, **asked.validated_data))

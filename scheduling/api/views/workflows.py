"""Workflows, their jobs and results."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponseBase
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from scheduling.api.bodies import AcceptedBody, EventPageBody, ResultsBody, WorkflowBody, WorkflowRowBody
from scheduling.api.downloads import content_type, file_response
from scheduling.api.pagination import NewestFirst
from scheduling.api.serializers import WorkflowFilter, WorkflowSerializer, event_page, filters, workflow_request
from scheduling.api.views.base import JOB_ID, WORKFLOW_ID, Resource, refusals
from scheduling.api.views.submitting import KEY, Submitting
from scheduling.models import Workflow
from scheduling.selectors import events
from scheduling.selectors import workflows as selectors
from scheduling.services import workflows as services
from scheduling.states import WorkflowStatus

_SUBMISSION = OpenApiExample(
    "Two jobs of one branch",
    {
        "jobs": [
            {"job_id": "j1", "branch": "b1", "job_type": "SEGMENT_CELLS"},
            {"job_id": "j2", "branch": "b1", "job_type": "TISSUE_MASK"},
        ]
    },
    request_only=True,
)
_ON_A_SLIDE = OpenApiExample(
    "Tissue and cells of a slide",
    {
        "name": "Batch 14",
        "slide": "9d2fdb1a-3f5a-4e99-8732-13418e015e19",
        "jobs": [
            {"job_id": "tissue", "branch": "main", "job_type": "TISSUE_MASK"},
            {"job_id": "cells", "branch": "main", "job_type": "SEGMENT_CELLS"},
        ],
    },
    request_only=True,
)
_DEPENDING = OpenApiExample(
    "One mask for the segmentations of two branches",
    {
        "slide": "9d2fdb1a-3f5a-4e99-8732-13418e015e19",
        "jobs": [
            {"job_id": "tissue", "branch": "main", "job_type": "TISSUE_MASK"},
            {"job_id": "cells", "branch": "main", "job_type": "SEGMENT_CELLS"},
            {
                "job_id": "again",
                "branch": "check",
                "job_type": "SEGMENT_CELLS",
                "depends_on": ["tissue"],
                "cache": False,
                "timeout_s": 3600,
            },
        ],
    },
    request_only=True,
)
_ACCEPTED = OpenApiExample(
    "Accepted", {"workflow_id": "9d2fdb1a-3f5a-4e99-8732-13418e015e19", "status": "ACCEPTED"}, response_only=True, status_codes=["201"]
)
_LIMITED = OpenApiExample("Rate limit", {"detail": "Rate limit exceeded. Please slow down."}, response_only=True, status_codes=["429"])
_LOCATION = OpenApiParameter("Location", OpenApiTypes.URI, OpenApiParameter.HEADER, response=[201], description="The new workflow.")
_SEARCH = OpenApiParameter(
    "search", OpenApiTypes.STR, description="Part of the name, of a job_id or of a slide's name, or the workflow_id."
)
_FILTERS = [
    _SEARCH,
    OpenApiParameter("status", OpenApiTypes.STR, enum=[status.value for status in WorkflowStatus]),
    OpenApiParameter("branch", OpenApiTypes.STR, description="Workflows with a job in this branch."),
    OpenApiParameter("job_type", OpenApiTypes.STR, description="Workflows with a job of this type."),
]
_EVENT_PAGE = [
    OpenApiParameter("after", {"type": "integer", "minimum": 0, "default": 0}, description="Only events with a higher id."),
    OpenApiParameter("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, description="How many at most."),
]
_EVENTS = OpenApiExample(
    "The end of a job",
    {
        "results": [
            {
                "id": 41,
                "at": "2026-01-02T03:04:05.000006Z",
                "type": "job.finished",
                "actor": "scheduler",
                "reason": "",
                "term": 3,
                "epoch": 17,
                "job_id": "j1",
                "job": "0b7a2f0e-6c1d-4a53-9c0c-6a7f3f1c2d11",
                "data": {"job_id": "j1", "branch": "b1", "attempt": 1, "state": "SUCCEEDED", "tiles": 20, "tiles_total": 20},
            }
        ],
        "next": None,
        "after": 41,
    },
    response_only=True,
    status_codes=["200"],
)


class WorkflowViewSet(Submitting[Workflow]):
    """Branches of jobs that a user submitted together."""

    pagination_class = NewestFirst

    def first_answer(self, idempotency: services.Idempotency) -> Workflow | None:
        """The workflow that this key has made."""
        return services.idempotent_replay(user=self.user, idempotency=idempotency)

    @extend_schema(
        operation_id="workflow_submit",
        request=WorkflowSerializer,
        parameters=[KEY, _LOCATION],
        responses={201: AcceptedBody, **refusals(400, 413, 415, 422, 429)},
        examples=[_SUBMISSION, _ON_A_SLIDE, _DEPENDING, _ACCEPTED, _LIMITED],
    )
    def create(self, request: Request) -> Response:
        """Submit a workflow."""
        workflow = self.answered or services.workflow_submit(
            user=self.user, request=workflow_request(request.data), idempotency=self.idempotency
        )
        location = request.build_absolute_uri(reverse("api:workflow", args=[str(workflow.uuid)]))
        return Response(
            {"workflow_id": str(workflow.uuid), "status": WorkflowStatus.ACCEPTED.value}, status=201, headers={"Location": location}
        )

    @extend_schema(operation_id="workflow_list", parameters=_FILTERS, responses={200: WorkflowRowBody(many=True), **refusals(400)})
    def list(self, request: Request) -> Response:
        """Own workflows, newest first, at most 50 a page."""
        chosen = filters(WorkflowFilter, request.query_params)
        return self.page(selectors.workflow_query(user=self.user, **chosen), selectors.workflow_rows)

    @extend_schema(operation_id="workflow_read", parameters=[WORKFLOW_ID], responses={200: WorkflowBody, **refusals(404)})
    def retrieve(self, request: Request, workflow_id: str) -> Response:
        """A workflow with its jobs and their progress."""
        return Response(selectors.workflow_body(self._workflow(workflow_id)))

    @extend_schema(operation_id="workflow_delete", parameters=[WORKFLOW_ID], responses={204: None, **refusals(404, 409)})
    def destroy(self, request: Request, workflow_id: str) -> Response:
        """Delete a finished workflow with its results."""
        services.workflow_delete(workflow=self._workflow(workflow_id), actor=self.user.username)
        return Response(status=204)

    @extend_schema(
        operation_id="workflow_cancel", request=None, parameters=[WORKFLOW_ID], responses={202: AcceptedBody, **refusals(404, 409)}
    )
    def cancel(self, request: Request, workflow_id: str) -> Response:
        """Cancel: waiting jobs at once, running ones within one bundle of tiles."""
        workflow = self._workflow(workflow_id)
        services.workflow_cancel(workflow=workflow, actor=self.user.username)
        return standing(workflow)

    @extend_schema(
        operation_id="workflow_retry", request=None, parameters=[WORKFLOW_ID], responses={202: AcceptedBody, **refusals(404, 409)}
    )
    def retry(self, request: Request, workflow_id: str) -> Response:
        """Put FAILED and CANCELLED jobs back in their places; finished tiles are kept."""
        workflow = self._workflow(workflow_id)
        services.workflow_retry(workflow=workflow, actor=self.user.username)
        return standing(workflow)

    @extend_schema(
        operation_id="workflow_pause", request=None, parameters=[WORKFLOW_ID], responses={202: WorkflowBody, **refusals(404, 409)}
    )
    def pause(self, request: Request, workflow_id: str) -> Response:
        """Pause: running jobs wait again within one bundle of tiles, finished tiles kept."""
        services.workflow_pause(workflow=self._workflow(workflow_id), actor=self.user.username)
        return Response(selectors.workflow_body(self._workflow(workflow_id)), status=202)

    @extend_schema(
        operation_id="workflow_resume", request=None, parameters=[WORKFLOW_ID], responses={202: WorkflowBody, **refusals(404, 409)}
    )
    def resume(self, request: Request, workflow_id: str) -> Response:
        """Let a paused workflow go on."""
        services.workflow_resume(workflow=self._workflow(workflow_id), actor=self.user.username)
        return Response(selectors.workflow_body(self._workflow(workflow_id)), status=202)

    @extend_schema(
        operation_id="workflow_events",
        parameters=[WORKFLOW_ID, *_EVENT_PAGE],
        responses={200: EventPageBody, **refusals(400, 404)},
        examples=[_EVENTS],
    )
    def events(self, request: Request, workflow_id: str) -> Response:
        """Every transition of the workflow and its jobs, oldest first; goes on `after` an event seen before."""
        workflow = self._workflow(workflow_id)
        after, limit = event_page(request.query_params)
        found, are_more = events.workflow_events(workflow, after=after, limit=limit)
        last = found[-1]["id"] if found else after
        following = replace_query_param(request.build_absolute_uri(), "after", str(last)) if are_more else None
        return Response({"results": found, "next": following, "after": last})

    def _workflow(self, workflow_id: str) -> Workflow:
        return selectors.workflow_get(user=self.user, workflow_uuid=workflow_id)


class JobViewSet(Resource):
    """One job of a workflow, by the id its user gave it."""

    @extend_schema(
        operation_id="job_cancel", request=None, parameters=[WORKFLOW_ID, JOB_ID], responses={202: AcceptedBody, **refusals(404, 409)}
    )
    def cancel(self, request: Request, workflow_id: str, job_id: str) -> Response:
        """Cancel the job."""
        job = selectors.job_get(user=self.user, workflow_uuid=workflow_id, job_id=job_id)
        services.job_cancel(job=job, actor=self.user.username)
        return standing(job.workflow)

    @extend_schema(
        operation_id="job_retry", request=None, parameters=[WORKFLOW_ID, JOB_ID], responses={202: AcceptedBody, **refusals(404, 409)}
    )
    def retry(self, request: Request, workflow_id: str, job_id: str) -> Response:
        """Put the job back in its place; finished tiles are kept."""
        job = selectors.job_get(user=self.user, workflow_uuid=workflow_id, job_id=job_id)
        services.job_retry(job=job, actor=self.user.username)
        return standing(job.workflow)

    @extend_schema(operation_id="job_results", parameters=[WORKFLOW_ID, JOB_ID], responses={200: ResultsBody, **refusals(404)})
    def results(self, request: Request, workflow_id: str, job_id: str) -> Response:
        """The artifacts of a job that has SUCCEEDED."""
        job = selectors.job_get(user=self.user, workflow_uuid=workflow_id, job_id=job_id)

        def described(artifact: dict[str, Any]) -> dict[str, Any]:
            url = reverse("api:artifact", args=[workflow_id, job_id, artifact["name"]])
            return {**artifact, "content_type": content_type(artifact["name"]), "url": request.build_absolute_uri(url)}

        return Response({"artifacts": [described(artifact) for artifact in selectors.job_artifacts(job)]})

    @extend_schema(
        operation_id="job_result",
        parameters=[
            WORKFLOW_ID,
            JOB_ID,
            OpenApiParameter("name", OpenApiTypes.STR, OpenApiParameter.PATH),
            OpenApiParameter("Range", OpenApiTypes.STR, OpenApiParameter.HEADER, description="One range, as in `bytes=0-1023`."),
        ],
        responses={
            (200, "application/octet-stream"): OpenApiResponse(OpenApiTypes.BINARY, "The file."),
            (206, "application/octet-stream"): OpenApiResponse(OpenApiTypes.BINARY, "The range asked for."),
            304: OpenApiResponse(description="Unchanged."),
            **refusals(404, 416),
        },
    )
    def result(self, request: Request, workflow_id: str, job_id: str, name: str) -> HttpResponseBase:
        """A file of the results; `Range`, `If-Range`, `ETag` and `If-None-Match` work."""
        job = selectors.job_get(user=self.user, workflow_uuid=workflow_id, job_id=job_id)
        path = selectors.artifact_path(job, name)
        sha256 = next((artifact.get("sha256", "") for artifact in selectors.job_artifacts(job) if artifact["name"] == name), "")
        return file_response(request._request, path, name=name, sha256=sha256)


def standing(workflow: Workflow) -> Response:
    """202 with the workflow's status after the change."""
    workflow.refresh_from_db(fields=["status"])
    return Response({"workflow_id": str(workflow.uuid), "status": workflow.status}, status=202)

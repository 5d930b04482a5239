"""Pages and fragments that are read. What changes something is in `actions.py`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.templatetags.static import static
from django.utils import timezone
from django.views.decorators.http import require_safe

from dashboard.access import signed_in, user_of
from dashboard.activity import activity_line
from dashboard.drafts import Draft
from dashboard.lists import Filter, page_of, running_count
from dashboard.presenters import JobCard, SlideLabel, WorkflowPage, job_foot, lanes_of, look_table
from dashboard.rows import BLANK, Standing, WorkflowRow
from scheduling.errors import NotFound
from scheduling.jobtypes import registry
from scheduling.models import Job, Workflow
from scheduling.selectors.queue import queue_body
from scheduling.selectors.slides import slide_query
from scheduling.selectors.workflows import (
    job_artifacts,
    job_find,
    job_get,
    slide_names,
    workflow_activity,
    workflow_body,
    workflow_get,
)

#: The slide list of the panel; older slides are found by their workflows.
MAX_SLIDES = 200


def home(request: HttpRequest) -> HttpResponse:
    """The bare address leads to the dashboard."""
    return redirect("dashboard:overview")


def favicon(request: HttpRequest) -> HttpResponse:
    """For programs that look for it where it always was."""
    return redirect(static("img/favicon.svg"))


@require_safe
@signed_in
def overview(request: HttpRequest) -> HttpResponse:
    """The reader's workflows and the "Create workflow" panel."""
    return render_overview(request, Draft.fresh())


def render_overview(request: HttpRequest, draft: Draft, status: int = 200) -> HttpResponse:
    """The overview with what stands in the panel."""
    user, now, chosen = user_of(request), timezone.now(), Filter.of(request.GET)
    page = page_of(user, chosen)
    rows = [WorkflowRow(body=body, now=now, names_owner=user.is_staff) for body in page.bodies]
    context = {
        "draft": draft,
        "job_types": registry.describe(),
        "slides": slide_query(user=user)[:MAX_SLIDES],
        "page": page,
        "rows": rows,
        "blank_row": WorkflowRow(body=BLANK, now=now, names_owner=user.is_staff),
        "chosen": chosen,
        "standing": Standing(queue=queue_body(user), user_id=user.username, now=now),
        "bootstrap": {"page": "overview", "user": user.username, "is_staff": user.is_staff, "takes_news": chosen.is_plain, **look_table()},
    }
    return render(request, "dashboard/overview.html", context, status=status)


@require_safe
@signed_in
def workflow(request: HttpRequest, workflow_id: str) -> HttpResponse:
    """One workflow: its branches as lanes of job cards, what happened in it."""
    found = workflow_get(user=user_of(request), workflow_uuid=workflow_id)
    body, now = workflow_body(found), timezone.now()
    context = {
        "flow": WorkflowPage(body=body, number=found.pk, now=now),
        "lanes": lanes_of(_cards(found, body)),
        "activity": [activity_line(event, now) for event in workflow_activity(found)],
        "artifacts": _artifacts_of(found),
        "bootstrap": {
            "page": "workflow",
            "topic": f"workflow:{found.uuid}",
            "is_own": found.owner_id == user_of(request).pk,
            **look_table(),
        },
    }
    return render(request, "dashboard/workflow.html", context)


def _cards(workflow: Workflow, body: dict[str, Any]) -> list[JobCard]:
    names, titles, now = slide_names(workflow), {kind["name"]: kind["title"] for kind in registry.describe()}, timezone.now()

    def slide_of(job: dict[str, Any]) -> SlideLabel | None:
        key = job["slide"]
        return SlideLabel(name=names.get(key, "slide"), thumbnail=f"/slide/{key}/thumbnail") if key else None

    return [
        JobCard(body=job, title=titles.get(job["job_type"], job["job_type"]), slide=slide_of(job), foot=job_foot(job, now))
        for job in body["jobs"]
    ]


def _artifacts_of(workflow: Workflow) -> dict[str, list[dict[str, Any]]]:
    rows = Job.objects.filter(workflow=workflow, state="SUCCEEDED").values_list("job_id", "artifacts")
    return {job_id: artifacts for job_id, artifacts in rows if artifacts}


@require_safe
@signed_in
def activity(request: HttpRequest, workflow_id: str) -> HttpResponse:
    """The entries of the activity list alone; a header carries the navigation's count, which changes with them."""
    found, now = workflow_get(user=user_of(request), workflow_uuid=workflow_id), timezone.now()
    lines = [activity_line(event, now) for event in workflow_activity(found)]
    response = render(request, "dashboard/_activity.html", {"activity": lines})
    response["X-Running-Workflows"] = str(running_count(user_of(request)))
    return response


@require_safe
@signed_in
def results(request: HttpRequest, workflow_id: str, job_id: str) -> HttpResponse:
    """The downloads of one job alone; empty until it has succeeded."""
    job = job_get(user=user_of(request), workflow_uuid=workflow_id, job_id=job_id)
    try:
        artifacts = job_artifacts(job)
    except NotFound:
        artifacts = []
    context = {"artifacts": artifacts, "workflow_id": job.workflow.uuid, "job_id": job.job_id}
    return render(request, "dashboard/_results.html", context)


@require_safe
@signed_in
def job(request: HttpRequest, job_uuid: UUID) -> HttpResponse:
    """A job's address leads to its card."""
    found = job_find(user=user_of(request), job_uuid=job_uuid)
    return redirect(f"/ui/workflow/{found.workflow.uuid}#job-{found.job_id}")

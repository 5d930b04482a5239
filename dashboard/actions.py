"""Forms of the dashboard that change something: each calls one service and says what came of it.

Answers are a redirect with a flash message, or for our own scripts the same message as JSON.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from dashboard.access import signed_in, user_of, wants_json
from dashboard.context import MODE_COOKIE, MODES
from dashboard.drafts import Draft
from dashboard.views import render_overview
from dashboard.wording import plural
from scheduling.api import throttling
from scheduling.errors import Conflict, Invalid, SchedulingError, TooLarge
from scheduling.models import User, Workflow
from scheduling.selectors.slides import slide_query
from scheduling.selectors.workflows import job_get, workflow_get
from scheduling.services import slides as slide_services
from scheduling.services import workflows as services

OVERVIEW = "/ui"
YEAR_S = 365 * 86_400
LEVELS = {"success": messages.SUCCESS, "warning": messages.WARNING, "error": messages.ERROR}


def answer(request: HttpRequest, level: str, text: str, to: str, status: int = 200) -> HttpResponse:
    """Tell the reader what came of a form."""
    if wants_json(request):
        return JsonResponse({"level": level, "text": text, "to": to}, status=status)
    messages.add_message(request, LEVELS[level], text, extra_tags=level)
    return redirect(to)


def changes(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A POST of a signed-in user; what the present state does not allow is told on the page it came from."""

    @wraps(view)
    def guarded(request: HttpRequest, workflow_id: str, **names: str) -> HttpResponse:
        try:
            return view(request, workflow_id=workflow_id, **names)
        except Conflict as error:
            return answer(request, "warning", error.message, f"/ui/workflow/{workflow_id}", status=409)

    return require_POST(signed_in(guarded))


def steering(use_case: Callable[..., None], words: str) -> Callable[..., HttpResponse]:
    """A form that steers a workflow by one service; `words` say what came of it, {} being the workflow's name."""

    def view(request: HttpRequest, workflow_id: str) -> HttpResponse:
        workflow = workflow_get(user=user_of(request), workflow_uuid=workflow_id)
        use_case(workflow=workflow, actor=user_of(request).username)
        return answer(request, "success", words.format(workflow), f"/ui/workflow/{workflow_id}")

    return changes(view)


def job_steering(use_case: Callable[..., None], words: str) -> Callable[..., HttpResponse]:
    """As steering, for one job; {} is its job_id."""

    def view(request: HttpRequest, workflow_id: str, job_id: str) -> HttpResponse:
        job = job_get(user=user_of(request), workflow_uuid=workflow_id, job_id=job_id)
        use_case(job=job, actor=user_of(request).username)
        return answer(request, "success", words.format(job_id), f"/ui/workflow/{workflow_id}")

    return changes(view)


workflow_cancel = steering(services.workflow_cancel, "{} is being cancelled.")
workflow_retry = steering(services.workflow_retry, "{}: failed and cancelled jobs wait again.")
workflow_pause = steering(services.workflow_pause, "{} is being paused.")
workflow_resume = steering(services.workflow_resume, "{} goes on.")
job_cancel = job_steering(services.job_cancel, "Job {} is being cancelled.")
job_retry = job_steering(services.job_retry, "Job {} waits again.")


@changes
def workflow_delete(request: HttpRequest, workflow_id: str) -> HttpResponse:
    """Delete a finished workflow with its results."""
    workflow = workflow_get(user=user_of(request), workflow_uuid=workflow_id)
    title = str(workflow)
    services.workflow_delete(workflow=workflow, actor=user_of(request).username)
    return answer(request, "success", f"{title} was deleted.", OVERVIEW)


@require_POST
@signed_in
def workflow_create(request: HttpRequest) -> HttpResponse:
    """The panel: submit it, or (without scripts) give it one row more or less."""
    draft = Draft.of(request.POST)
    if "add" in request.POST or not draft.jobs:
        draft.add_row()
        return render_overview(request, draft)
    if (index := request.POST.get("remove", "")).isascii() and index.isdigit():
        draft.remove_row(int(index))
        return render_overview(request, draft)
    if not draft.check():
        return render_overview(request, draft, status=400)
    return _submit(request, draft)


def _submit(request: HttpRequest, draft: Draft) -> HttpResponse:
    user, idempotency = user_of(request), draft.idempotency()
    workflow = services.idempotent_replay(user=user, idempotency=idempotency)
    if workflow is None:
        wait_s = seconds_to_wait(user.username)
        if wait_s:
            messages.error(request, f"{throttling.DETAIL} Try again in {plural(wait_s, 'second')}.", extra_tags="error")
            response = render_overview(request, draft, status=429)
            response["Retry-After"] = str(wait_s)
            return response
        try:
            _state_resolution(user, draft)
            workflow = services.workflow_submit(user=user, request=draft.request(), idempotency=idempotency)
        except SchedulingError as error:
            draft.take_refusal(error)
            return render_overview(request, draft, status=400)
    return redirect(_address(workflow))


def _state_resolution(user: User, draft: Draft) -> None:
    """Keep the microns per pixel typed for a slide that has none. Raises Invalid, also when none were typed."""
    slide = slide_query(user=user, search=draft.slide).filter(mpp__isnull=True).first() if draft.slide else None
    if slide is None:
        return
    mpp = draft.resolution()
    if mpp is None:
        raise Invalid("This slide does not state its microns per pixel; please give them below.", field="slide")
    slide_services.slide_update(slide=slide, mpp=mpp)


def _address(workflow: Workflow) -> str:
    return f"/ui/workflow/{workflow.uuid}"


def seconds_to_wait(user_id: str) -> int:
    """Take a token of the bucket that POST /workflow takes from; 0 when there was one, else whole seconds until the next."""
    if settings.ENV.rate_limit_capacity == 0:
        return 0
    taken, wait_s = throttling.take(user_id, settings.ENV.rate_limit_capacity, settings.ENV.rate_limit_refill_per_second)
    return 0 if taken else max(1, math.ceil(wait_s))


@require_POST
@signed_in
def slide_upload(request: HttpRequest) -> HttpResponse:
    """A slide file by a plain form; scripts send it to POST /slide, which shows progress."""
    file = request.FILES.get("file")
    if file is None:
        return answer(request, "error", "Choose a slide file first.", OVERVIEW, status=400)
    try:
        slide = slide_services.slide_upload(user=user_of(request), name=file.name or "slide", chunks=file.chunks())
    except (Invalid, TooLarge) as error:
        return answer(request, "error", f"The slide was not kept: {error.message}", OVERVIEW, status=400)
    return answer(request, "success", f"{slide.name} is ready to use.", OVERVIEW)


@require_POST
def color_mode(request: HttpRequest) -> HttpResponse:
    """Dark, light or as the system says, kept in a cookie that the server renders: no flash of the other one."""
    mode, back = request.POST.get("mode", ""), request.POST.get("back", "")
    response = redirect(back if url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()}) else OVERVIEW)
    if mode in MODES:
        response.set_cookie(MODE_COOKIE, mode, max_age=YEAR_S, samesite="Lax", secure=request.is_secure(), httponly=True)
    return response

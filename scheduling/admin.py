"""The admin: everything to be seen, work steered through the same services as the API, no state editable by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db.models import Count, Model, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from rest_framework.authtoken.models import Token

from scheduling.errors import SchedulingError
from scheduling.models import (
    Annotation,
    Dependency,
    Event,
    IdempotencyKey,
    Job,
    MetricSample,
    SchedulerLease,
    Slide,
    User,
    UserSlot,
    VirtualTime,
    Workflow,
)
from scheduling.services import annotations as annotation_services
from scheduling.services import slides, workflows
from scheduling.states import FINISHED

admin.site.site_header = admin.site.site_title = "Workflow scheduler"
admin.site.site_url = "/ui"


class ReadOnlyAdmin(admin.ModelAdmin[Any]):
    """To look at. What may be done is done by actions over the services."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nothing is made here."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nothing is edited here; viewing needs the view permission alone."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Rows go with what they belong to, or by a service."""
        return False


def each(
    modeladmin: admin.ModelAdmin[Any], request: HttpRequest, rows: QuerySet[Any], act: Callable[[Any, str], object], done: str
) -> None:
    """Carry out `act` on every row as the signed-in user, and say how many did and which refused why."""
    succeeded = 0
    for row in rows:
        try:
            act(row, request.user.get_username())
        except SchedulingError as error:
            modeladmin.message_user(request, f"{row}: {error.message}", messages.WARNING)
        else:
            succeeded += 1
    if succeeded:
        modeladmin.message_user(request, f"{done}: {succeeded}", messages.SUCCESS)


def progress_bar(processed: int, total: int | None) -> str:
    """Tiles as a bar and in numbers."""
    if not total:
        return "-"
    return format_html('<progress max="{}" value="{}"></progress> {} / {}', total, processed, processed, total)


class JobInline(admin.TabularInline[Job, Workflow]):
    """The jobs of a workflow, in order."""

    model = Job
    fields = readonly_fields = ("job_id", "branch", "job_type", "state", "progress_shown", "attempt", "error", "started_at", "finished_at")
    ordering = ("id",)
    show_change_link = True
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Jobs come with their workflow."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """States are the scheduler's."""
        return False

    @admin.display(description="progress")
    def progress_shown(self, job: Job) -> str:
        """Tiles of the job."""
        return progress_bar(job.tiles_processed, job.tiles_total)


class SteeredAdmin(ReadOnlyAdmin):
    """Workflows and jobs: cancel and retry for those who may change them."""

    def has_steer_permission(self, request: HttpRequest) -> bool:
        """The permission to change, which here means to steer."""
        return request.user.has_perm(f"scheduling.change_{self.opts.model_name}")


@admin.register(Workflow)
class WorkflowAdmin(SteeredAdmin):
    """Workflows with their jobs inline."""

    list_display = ("number", "name", "owner", "status", "job_count", "progress_shown", "created_at", "started_at", "finished_at")
    list_display_links = ("number", "name")
    list_filter = ("status", "paused", "branch_scope", "on_failure", "created_at")
    list_select_related = ("owner",)
    search_fields = ("name", "uuid", "owner__username", "jobs__job_id")
    readonly_fields = ("uuid", "created_at")
    date_hierarchy = "created_at"
    inlines = [JobInline]
    actions = ["cancel", "retry", "pause", "resume", "delete_finished"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Workflow]:
        """With counts of jobs, so that a list costs one query."""
        ended = Count("jobs", filter=Q(jobs__state__in=FINISHED))
        counted: QuerySet[Workflow] = super().get_queryset(request).annotate(jobs_all=Count("jobs"), jobs_ended=ended)
        return counted

    @admin.display(description="#", ordering="id")
    def number(self, workflow: Workflow) -> str:
        """The order of submission."""
        return f"#{workflow.pk}"

    @admin.display(description="jobs", ordering="jobs_all")
    def job_count(self, workflow: Any) -> int:
        """Number of jobs."""
        return int(workflow.jobs_all)

    @admin.display(description="jobs ended")
    def progress_shown(self, workflow: Any) -> str:
        """Jobs that have ended."""
        return progress_bar(workflow.jobs_ended, workflow.jobs_all)

    @admin.action(description="Cancel", permissions=["steer"])
    def cancel(self, request: HttpRequest, rows: QuerySet[Workflow]) -> None:
        """As POST /workflow/{workflow_id}/cancel."""
        each(self, request, rows, lambda row, actor: workflows.workflow_cancel(workflow=row, actor=actor), "Cancelled")

    @admin.action(description="Retry failed and cancelled jobs", permissions=["steer"])
    def retry(self, request: HttpRequest, rows: QuerySet[Workflow]) -> None:
        """As POST /workflow/{workflow_id}/retry."""
        each(self, request, rows, lambda row, actor: workflows.workflow_retry(workflow=row, actor=actor), "Put back")

    @admin.action(description="Pause", permissions=["steer"])
    def pause(self, request: HttpRequest, rows: QuerySet[Workflow]) -> None:
        """As POST /workflow/{workflow_id}/pause."""
        each(self, request, rows, lambda row, actor: workflows.workflow_pause(workflow=row, actor=actor), "Paused")

    @admin.action(description="Resume", permissions=["steer"])
    def resume(self, request: HttpRequest, rows: QuerySet[Workflow]) -> None:
        """As POST /workflow/{workflow_id}/resume."""
        each(self, request, rows, lambda row, actor: workflows.workflow_resume(workflow=row, actor=actor), "Resumed")

    @admin.action(description="Delete with results (finished workflows)", permissions=["steer"])
    def delete_finished(self, request: HttpRequest, rows: QuerySet[Workflow]) -> None:
        """As DELETE /workflow/{workflow_id}."""
        each(self, request, rows, lambda row, actor: workflows.workflow_delete(workflow=row, actor=actor), "Deleted")


@admin.register(Job)
class JobAdmin(SteeredAdmin):
    """Jobs of all workflows."""

    list_display = (
        "job_id",
        "workflow",
        "owner",
        "branch",
        "job_type",
        "queue",
        "state",
        "progress_shown",
        "attempt",
        "created_at",
        "finished_at",
    )
    list_filter = ("state", "job_type", "queue", "created_at")
    list_select_related = ("workflow", "owner")
    search_fields = ("job_id", "uuid", "branch", "owner__username", "workflow__uuid", "workflow__name")
    readonly_fields = ("uuid", "created_at")
    actions = ["cancel", "retry"]

    @admin.display(description="progress")
    def progress_shown(self, job: Job) -> str:
        """Tiles of the job."""
        return progress_bar(job.tiles_processed, job.tiles_total)

    @admin.action(description="Cancel", permissions=["steer"])
    def cancel(self, request: HttpRequest, rows: QuerySet[Job]) -> None:
        """As POST …/job/{job_id}/cancel."""
        each(self, request, rows, lambda row, actor: workflows.job_cancel(job=row, actor=actor), "Cancelled")

    @admin.action(description="Retry", permissions=["steer"])
    def retry(self, request: HttpRequest, rows: QuerySet[Job]) -> None:
        """As POST …/job/{job_id}/retry."""
        each(self, request, rows, lambda row, actor: workflows.job_retry(job=row, actor=actor), "Put back")


@admin.register(Slide)
class SlideAdmin(SteeredAdmin):
    """Slides, the deleted ones that a job still names included."""

    list_display = (
        "name",
        "owner",
        "format",
        "width",
        "height",
        "mpp",
        "mpp_source",
        "root",
        "is_upload",
        "size_bytes",
        "created_at",
        "deleted_at",
    )
    list_filter = ("format", "is_upload", "mpp_source", ("deleted_at", admin.EmptyFieldListFilter), "created_at")
    list_select_related = ("owner",)
    search_fields = ("name", "id", "path", "owner__username", "fingerprint")
    readonly_fields = ("id", "created_at")
    actions = ["delete_slides"]

    @admin.action(description="Delete slides that no unfinished job uses", permissions=["steer"])
    def delete_slides(self, request: HttpRequest, rows: QuerySet[Slide]) -> None:
        """As DELETE /slide/{slide_id}."""
        each(self, request, rows, lambda row, actor: slides.slide_delete(slide=row, actor=actor), "Deleted")


@admin.register(Annotation)
class AnnotationAdmin(SteeredAdmin):
    """Areas drawn on slides, the deleted ones that a job still names included."""

    list_display = ("name", "slide", "slide_owner", "features", "area_px", "size_bytes", "created_at", "deleted_at")
    list_filter = (("deleted_at", admin.EmptyFieldListFilter), "created_at")
    list_select_related = ("slide__owner",)
    search_fields = ("name", "id", "slide__name", "slide__owner__username", "sha256")
    readonly_fields = ("id", "created_at")
    actions = ["delete_annotations"]

    @admin.display(description="owner", ordering="slide__owner__username")
    def slide_owner(self, annotation: Annotation) -> str:
        """Whose slide it is."""
        return annotation.slide.owner.username

    @admin.action(description="Delete annotations that no unfinished job uses", permissions=["steer"])
    def delete_annotations(self, request: HttpRequest, rows: QuerySet[Annotation]) -> None:
        """As DELETE /slide/{slide_id}/annotation/{annotation_id}."""
        each(self, request, rows, lambda row, actor: annotation_services.annotation_delete(annotation=row, actor=actor), "Deleted")


class TokenInline(admin.StackedInline[Token, User]):
    """The user's API token; delete and save to make another."""

    model = Token
    fields = readonly_fields = ("key", "created")
    extra = 0
    max_num = 1


@admin.register(User)
class UserAdmin(DjangoUserAdmin[User]):
    """Users with their weight, their standing and their token. They are disabled, not deleted: their work names them."""

    list_display = ("username", "is_active", "is_staff", "weight", "slot_since", "waiting_since", "workflow_count", "last_login")
    list_filter = (*DjangoUserAdmin.list_filter, "waiting_since")
    list_select_related = ("slot",)
    readonly_fields = ("waiting_since", "slot_since", "work")
    inlines = [TokenInline]
    actions = ["make_tokens"]
    fieldsets = (*(DjangoUserAdmin.fieldsets or ()), ("Scheduling", {"fields": ("weight", "slot_since", "waiting_since", "work")}))

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        """With the number of workflows."""
        counted: QuerySet[User] = super().get_queryset(request).annotate(workflows_all=Count("workflows"))
        return counted

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """See the class."""
        return False

    @admin.display(description="active since")
    def slot_since(self, user: User) -> Any:
        """Since when the user holds a slot."""
        slot = getattr(user, "slot", None)
        return slot.since if slot else None

    @admin.display(description="workflows", ordering="workflows_all")
    def workflow_count(self, user: Any) -> int:
        """Number of workflows."""
        return int(user.workflows_all)

    @admin.display(description="work")
    def work(self, user: User) -> str:
        """A link to the user's workflows."""
        query = urlencode({"owner__id__exact": user.pk})
        return format_html('<a href="{}?{}">workflows</a>', reverse("admin:scheduling_workflow_changelist"), query)

    @admin.action(description="Make an API token", permissions=["change"])
    def make_tokens(self, request: HttpRequest, rows: QuerySet[User]) -> None:
        """A token for each user that has none."""
        made = sum(Token.objects.get_or_create(user=user)[1] for user in rows)
        self.message_user(request, f"Tokens made: {made}", messages.SUCCESS)


@admin.register(UserSlot)
class UserSlotAdmin(ReadOnlyAdmin):
    """Who is active."""

    list_display = ("user", "since", "term")
    list_select_related = ("user",)
    search_fields = ("user__username",)


@admin.register(SchedulerLease)
class SchedulerLeaseAdmin(ReadOnlyAdmin):
    """Who leads."""

    list_display = ("holder", "term", "trusted_until", "epoch", "expected_queues")


@admin.register(Dependency)
class DependencyAdmin(ReadOnlyAdmin):
    """Which jobs wait for which."""

    list_display = ("job", "needs")
    list_select_related = ("job", "needs")
    search_fields = ("job__job_id", "needs__job_id")


@admin.register(VirtualTime)
class VirtualTimeAdmin(ReadOnlyAdmin):
    """Where the fair-share clocks stand: the next bundle goes to the least."""

    list_display = ("user", "queue", "seconds")
    list_select_related = ("user",)
    search_fields = ("user__username",)


@admin.register(MetricSample)
class MetricSampleAdmin(ReadOnlyAdmin):
    """Figures of the last week."""

    list_display = ("at", "data")
    ordering = ("-id",)


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    """The log of every transition."""

    list_display = ("id", "at", "type", "actor", "reason", "workflow_uuid", "job_uuid", "term", "epoch")
    list_filter = ("type", "at")
    search_fields = ("type", "actor", "workflow_uuid", "job_uuid")
    ordering = ("-id",)


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(ReadOnlyAdmin):
    """Keys of the last day."""

    list_display = ("key", "user", "workflow_uuid", "created_at")
    list_select_related = ("user",)
    search_fields = ("key", "user__username", "workflow_uuid")

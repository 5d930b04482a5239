"""The admin: every page opens, work is steered by actions, no state is editable, and lists cost a fixed number of queries."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from rest_framework.authtoken.models import Token

from scheduling.models import Annotation, Event, Job, Slide, User, UserSlot, Workflow
from scheduling.services.workflows import JobRequest, WorkflowRequest, workflow_submit
from scheduling.states import JobState, WorkflowStatus

pytestmark = pytest.mark.django_db


@pytest.fixture
def boss() -> Client:
    """A superuser, signed in."""
    client = Client()
    client.force_login(User.objects.create_superuser("boss", password="correct horse"))
    return client


def submitted(user_id: str = "alice", name: str = "Batch") -> Workflow:
    user, _ = User.objects.get_or_create(username=user_id)
    jobs = tuple(JobRequest(job_id=f"j{i}", branch="b", job_type="TISSUE_MASK") for i in range(3))
    return workflow_submit(user=user, request=WorkflowRequest(jobs=jobs, name=name))


def act(client: Client, model: str, action: str, *keys: Any) -> Any:
    form = {"action": action, "_selected_action": [str(key) for key in keys]}
    return client.post(reverse(f"admin:scheduling_{model}_changelist"), form, follow=True)


def test_every_model_is_there_and_every_page_opens(boss: Client) -> None:
    workflow = submitted()
    slide = Slide.objects.create(
        owner=workflow.owner, name="s", path="slides/s.svs", size_bytes=1, fingerprint="f", width=1, height=1, format="aperio"
    )
    Annotation.objects.create(slide=slide, name="By hand", size_bytes=1, features=1, area_px=1.0)
    UserSlot.objects.get_or_create(user=workflow.owner)
    for model in apps.get_app_config("scheduling").get_models():
        assert admin.site.is_registered(model), model
        name = model._meta.model_name
        assert boss.get(reverse(f"admin:scheduling_{name}_changelist"), {"q": "a"}).status_code == 200, name
        for row in model._default_manager.all()[:1]:
            assert boss.get(reverse(f"admin:scheduling_{name}_change", args=[row.pk])).status_code == 200, name
    assert slide.name.encode() in boss.get(reverse("admin:scheduling_slide_changelist")).content


def test_a_workflow_shows_its_jobs_with_their_progress(boss: Client) -> None:
    workflow = submitted()
    Job.objects.filter(job_id="j0").update(tiles_processed=12)
    page = boss.get(reverse("admin:scheduling_workflow_change", args=[workflow.pk])).content.decode()
    assert '<progress max="30" value="12"></progress> 12 / 30' in page
    assert 'name="status"' not in page and 'name="jobs-0-state"' not in page


def test_nothing_is_editable_by_hand(boss: Client) -> None:
    workflow = submitted()
    job = workflow.jobs.all()[0]
    for name, key in (("workflow", workflow.pk), ("job", job.pk), ("event", Event.objects.all()[0].pk)):
        change = reverse(f"admin:scheduling_{name}_change", args=[key])
        assert boss.post(change, {"status": "SUCCEEDED", "state": "SUCCEEDED", "actor": "x"}).status_code == 403
        assert boss.get(reverse(f"admin:scheduling_{name}_add")).status_code == 403
        assert boss.post(reverse(f"admin:scheduling_{name}_delete", args=[key]), {"post": "yes"}).status_code == 403
    job.refresh_from_db()
    assert job.state == JobState.PENDING


def test_actions_cancel_and_retry_through_the_services(boss: Client) -> None:
    workflow = submitted()
    page = act(boss, "workflow", "cancel", workflow.pk).content.decode()
    assert "Cancelled: 1" in page
    workflow.refresh_from_db()
    assert workflow.status == WorkflowStatus.CANCELLED
    assert Event.objects.filter(actor="boss").exists()
    assert "already finished" in act(boss, "workflow", "cancel", workflow.pk).content.decode()

    job = workflow.jobs.all()[1]
    act(boss, "job", "retry", job.pk)
    job.refresh_from_db()
    assert (job.state, job.attempt) == (JobState.PENDING, 2)
    act(boss, "job", "cancel", job.pk)
    act(boss, "workflow", "retry", workflow.pk)
    assert set(workflow.jobs.values_list("state", flat=True)) == {"PENDING"}
    act(boss, "workflow", "pause", workflow.pk)
    workflow.refresh_from_db()
    assert workflow.paused
    act(boss, "workflow", "resume", workflow.pk)
    workflow.refresh_from_db()
    assert not workflow.paused
    act(boss, "workflow", "delete_finished", workflow.pk)
    assert Workflow.objects.filter(pk=workflow.pk).exists(), "an unfinished workflow was deleted"


def test_those_who_may_only_look_cannot_steer() -> None:
    viewer = User.objects.create_user("viewer", password="correct horse", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(viewer)
    workflow = submitted()
    page = client.get(reverse("admin:scheduling_workflow_changelist"))
    assert page.status_code == 200
    assert b'value="cancel"' not in page.content
    act(client, "workflow", "cancel", workflow.pk)
    workflow.refresh_from_db()
    assert workflow.status == WorkflowStatus.ACCEPTED


@pytest.mark.parametrize("model", ["workflow", "job", "user", "event"])
def test_a_list_costs_the_same_for_many_rows(boss: Client, model: str) -> None:
    url = reverse(f"admin:scheduling_{model}_changelist")

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert boss.get(url).status_code == 200
        return len(queries)

    submitted("u0")
    boss.get(url)
    few = cost()
    for i in range(1, 8):
        submitted(f"u{i}")
    assert cost() == few


def test_users_get_tokens_and_are_not_deleted(boss: Client) -> None:
    user = User.objects.create_user("robot")
    act(boss, "user", "make_tokens", user.pk)
    assert Token.objects.filter(user=user).count() == 1
    assert boss.get(reverse("admin:scheduling_user_delete", args=[user.pk])).status_code == 403
    page = boss.get(reverse("admin:scheduling_user_change", args=[user.pk])).content.decode()
    assert Token.objects.get(user=user).key in page

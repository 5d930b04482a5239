"""What the database itself refuses, whoever writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from scheduling.models import Job, SchedulerLease, User, UserSlot, Workflow
from tests.integration.working import job_of, new_user, submit

pytestmark = pytest.mark.django_db


def refused(write: Callable[[], Any]) -> None:
    """The database must refuse this."""
    with pytest.raises(IntegrityError), transaction.atomic():
        write()


def test_a_lane_has_one_running_job() -> None:
    workflow = submit(new_user(), "j1", "j2", "j3 b2")
    Job.objects.filter(job_id__in=["j1", "j3"]).update(state="RUNNING")
    refused(lambda: Job.objects.filter(pk=job_of(workflow, "j2").pk).update(state="RUNNING"))
    assert Job.objects.filter(state="RUNNING").count() == 2


def test_a_job_id_is_unique_in_its_workflow_and_free_in_others() -> None:
    user = new_user()
    first, second = submit(user, "j1"), submit(user, "j1")
    assert first.pk != second.pk
    refused(lambda: Job.objects.create(workflow=first, owner=user, job_id="j1", branch="b", lane="x", job_type="TISSUE_MASK"))


def test_a_user_has_one_slot() -> None:
    user = new_user()
    UserSlot.objects.create(user=user)
    refused(lambda: UserSlot.objects.create(user=user))


@pytest.mark.parametrize(
    "values",
    [
        {"state": "PAUSED"},
        {"state": "running"},
        {"tiles_processed": 21},
        {"tiles_processed": -1},
        {"attempt": 0},
    ],
)
def test_a_job_cannot_hold_nonsense(values: dict[str, Any]) -> None:
    job = job_of(submit(new_user()))
    refused(lambda: Job.objects.filter(pk=job.pk).update(**values))


def test_a_workflow_cannot_have_an_unknown_status() -> None:
    workflow = submit(new_user())
    refused(lambda: Workflow.objects.filter(pk=workflow.pk).update(status="DONE"))


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_a_users_weight_is_positive(weight: float) -> None:
    user = new_user()
    refused(lambda: User.objects.filter(pk=user.pk).update(weight=weight))


def test_there_is_one_lease() -> None:
    SchedulerLease.objects.create(pk=1)
    refused(lambda: SchedulerLease.objects.create(pk=2))


def test_user_ids_are_unique() -> None:
    new_user("alice")
    refused(lambda: new_user("alice"))

"""The cast of the dashboard's tests, and one way to submit real workflows."""

from __future__ import annotations

from collections.abc import Callable

import django
import pytest

django.setup()  # this file is read before pytest-django sets Django up when it is named on the command line

from django.test import Client  # noqa: E402

from scheduling.models import User, Workflow  # noqa: E402
from scheduling.services.users import user_for_header  # noqa: E402
from scheduling.services.workflows import JobRequest, WorkflowRequest, workflow_submit  # noqa: E402

Submit = Callable[..., Workflow]


@pytest.fixture
def amelie(db: None) -> User:
    """The owner."""
    return user_for_header("amelie")


@pytest.fixture
def bjorn(db: None) -> User:
    """Somebody else."""
    return user_for_header("bjorn")


@pytest.fixture
def submit(db: None) -> Submit:
    """Submit jobs given as (job_id, branch)."""

    def make(user: User, *jobs: tuple[str, str], name: str = "") -> Workflow:
        requests = tuple(JobRequest(job_id=job_id, branch=branch, job_type="SEGMENT_CELLS") for job_id, branch in jobs or (("j1", "b1"),))
        return workflow_submit(user=user, request=WorkflowRequest(jobs=requests, name=name))

    return make


@pytest.fixture
def page(amelie: User) -> Client:
    """A browser in which amelie has signed in by typing her user id."""
    client = Client()
    assert client.post("/ui/login", {"user_id": "amelie"}).status_code == 302
    return client

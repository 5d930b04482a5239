"""Signing in by a typed user id where ids are trusted, by password everywhere, and out again."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from django.test import Client

from scheduling.models import User, Workflow
from scheduling.services import demo
from scheduling.services.users import user_for_header
from scheduling.services.workflows import JobRequest, WorkflowRequest, workflow_submit

pytestmark = pytest.mark.django_db


@pytest.fixture
def untrusting(settings: Any) -> None:
    """A server that asks for passwords."""
    settings.ENV = dataclasses.replace(settings.ENV, trust_user_header=False)


def test_a_typed_user_id_signs_in_a_new_user_and_leads_back(client: Client) -> None:
    answer = client.post("/ui/login", {"user_id": " amelie ", "next": "/ui?state=failed"})
    assert (answer.status_code, answer["Location"]) == (302, "/ui?state=failed")
    assert "Signed in as" in client.get("/ui").content.decode()
    assert client.get("/ui/login")["Location"] == "/ui"


@pytest.mark.parametrize("user_id", ["", "a b", "../x", "x" * 129, "."])
def test_a_malformed_user_id_is_explained_beside_the_field(client: Client, user_id: str) -> None:
    answer = client.post("/ui/login", {"user_id": user_id})
    assert answer.status_code == 400
    assert 'aria-describedby="user_id-hint user_id-error"' in answer.content.decode()
    assert not User.objects.exists()


@pytest.mark.parametrize("flags", [{"is_staff": True}, {"password": "secret"}, {"is_active": False}])
def test_a_typed_user_id_never_opens_a_closed_account(client: Client, flags: dict[str, Any]) -> None:
    User.objects.create_user("boss", **flags)
    answer = client.post("/ui/login", {"user_id": "boss"})
    assert answer.status_code == 403
    assert "This account needs its password" in answer.content.decode()
    assert client.get("/ui").status_code == 302


@pytest.mark.usefixtures("untrusting")
def test_a_server_that_trusts_no_ids_asks_for_a_password(client: Client) -> None:
    assert 'name="user_id"' not in client.get("/ui/login").content.decode()
    assert client.post("/ui/login", {"user_id": "amelie"}).status_code == 403
    assert client.get("/ui", headers={"X-User-ID": "amelie"}).status_code == 302


@pytest.mark.usefixtures("untrusting")
def test_a_password_signs_in(client: Client) -> None:
    User.objects.create_user("boss", password="secret")
    assert client.post("/ui/login", {"username": "boss", "password": "wrong"}).status_code == 400
    assert client.post("/ui/login", {"username": "boss", "password": "\0"}).status_code == 400
    assert client.post("/ui/login", {"username": "boss", "password": "secret"}).status_code == 302
    assert client.get("/ui").status_code == 200


@pytest.fixture
def sample(db: None) -> Workflow:
    """What a first start leaves behind."""
    return workflow_submit(
        user=user_for_header("demo"),
        request=WorkflowRequest(jobs=(JobRequest(job_id="mask", branch="b", job_type="TISSUE_MASK"),), name=demo.WORKFLOW_NAME),
    )


def test_a_newcomer_is_told_whose_the_sample_is_and_led_to_it(client: Client, sample: Workflow) -> None:
    assert 'name="user_id" value="demo"' in client.get("/ui/login").content.decode()
    client.post("/ui/login", {"user_id": "demo"})
    assert str(sample.uuid) in client.get("/ui").content.decode()


def test_no_sample_is_spoken_of_where_there_is_none(client: Client) -> None:
    assert "demo" not in client.get("/ui/login").content.decode()


@pytest.mark.usefixtures("sample", "untrusting")
def test_no_sample_is_spoken_of_where_a_typed_id_opens_nothing(client: Client) -> None:
    assert "demo" not in client.get("/ui/login").content.decode()


def test_a_session_of_a_typed_id_ends_when_ids_are_no_longer_trusted(page: Client, settings: Any) -> None:
    settings.ENV = dataclasses.replace(settings.ENV, trust_user_header=False)
    assert page.get("/ui").status_code == 302


def test_signing_in_leads_to_no_other_host(client: Client) -> None:
    assert client.post("/ui/login", {"user_id": "amelie", "next": "https://evil.example/"})["Location"] == "/ui"


def test_signing_out_takes_a_post(page: Client) -> None:
    assert page.get("/ui/logout").status_code == 405
    assert page.post("/ui/logout")["Location"] == "/ui/login"
    assert page.get("/ui").status_code == 302


def test_forms_need_their_token() -> None:
    strict = Client(enforce_csrf_checks=True)
    answer = strict.post("/ui/login", {"user_id": "amelie"})
    assert answer.status_code == 403
    assert "This form has expired" in answer.content.decode()

"""Who a request speaks for: the header, a token, a session, nobody."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

from scheduling.models import User
from tests.integration.api.conftest import JOBS, client_of

pytestmark = pytest.mark.django_db


def test_the_header_makes_a_user_without_a_password() -> None:
    assert client_of("new.user_1@lab-2").get("/workflow").status_code == 200
    user = User.objects.get(username="new.user_1@lab-2")
    assert not user.has_usable_password()
    assert not user.is_staff


@pytest.mark.parametrize("user_id", ["", "a b", "../x", "x" * 129, "a/b", "<b>", ".", "..", "é", "a\n", "a,b"])
def test_a_malformed_header_is_refused_and_makes_nobody(user_id: str) -> None:
    answer = client_of(user_id).get("/workflow")
    assert answer.status_code == 400
    assert "X-User-ID" in answer.json()["detail"]
    assert not User.objects.exists()


def test_nobody_is_asked_to_sign_in() -> None:
    answer = APIClient().get("/workflow")
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"] == "Token"
    assert answer.json()["detail"]


@pytest.mark.parametrize("trait", [{"is_staff": True}, {"is_superuser": True}, {"is_active": False}, {"password": "md5$x"}])
def test_the_header_never_gives_an_account_that_is_more_than_a_name(trait: dict[str, object]) -> None:
    user = User(username="boss", **trait)
    if "password" not in trait:
        user.set_unusable_password()
    user.save()
    assert client_of("boss").get("/workflow").status_code == 403


def test_a_header_that_is_not_trusted_is_not_looked_at(set_env: Callable[..., None]) -> None:
    set_env(trust_user_header=False)
    assert client_of("alice").get("/workflow").status_code == 401
    assert client_of("a b").get("/workflow").status_code == 401
    assert not User.objects.exists()


def test_a_token_signs_in(set_env: Callable[..., None]) -> None:
    set_env(trust_user_header=False)
    token = Token.objects.create(user=User.objects.create_user("robot"))
    client = APIClient(HTTP_AUTHORIZATION=f"Token {token.key}")
    workflow_id = client.post("/workflow", {"jobs": JOBS}).json()["workflow_id"]
    assert client.get(f"/workflow/{workflow_id}").json()["user_id"] == "robot"
    for wrong in ("Token nope", "Token", "Token a b", "Token \xe9"):
        assert APIClient(HTTP_AUTHORIZATION=wrong).get("/workflow").status_code == 401, wrong


def test_a_session_writes_only_with_its_csrf_token() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_user("carla", password="correct horse"))
    assert client.get("/workflow").status_code == 200
    refused = client.post("/workflow", {"jobs": JOBS}, content_type="application/json")
    assert refused.status_code == 403
    assert "CSRF" in refused.json()["detail"]
    client.cookies["csrftoken"] = "a" * 32
    accepted = client.post("/workflow", {"jobs": JOBS}, content_type="application/json", headers={"X-CSRFToken": "a" * 32})
    assert accepted.status_code == 201


def test_a_header_needs_no_csrf_token() -> None:
    client = Client(enforce_csrf_checks=True, headers={"X-User-ID": "alice"})
    assert client.post("/workflow", {"jobs": JOBS}, content_type="application/json").status_code == 201


def test_a_session_of_a_typed_name_ends_when_the_account_becomes_more(set_env: Callable[..., None]) -> None:
    client = Client()
    user = User(username="dora")
    user.set_unusable_password()
    user.save()
    client.force_login(user, backend="scheduling.api.authentication.HeaderBackend")
    assert client.get("/workflow").status_code == 200
    set_env(trust_user_header=False)
    assert client.get("/workflow").status_code == 401
    set_env(trust_user_header=True)
    User.objects.update(is_staff=True)
    assert client.get("/workflow").status_code == 401

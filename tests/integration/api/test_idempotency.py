"""Idempotency-Key on POST /workflow."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from scheduling.models import IdempotencyKey, Workflow
from tests.integration.api.conftest import client_of

BODY = {"jobs": [{"job_id": "j", "branch": "b", "job_type": "TISSUE_MASK"}]}


def post(client: APIClient, key: str, body: dict[str, Any] | None = None) -> Any:
    return client.post("/workflow", body or BODY, HTTP_IDEMPOTENCY_KEY=key)


def test_the_same_key_and_body_gives_the_first_answer_again(alice: APIClient) -> None:
    first, second = post(alice, "k-1"), post(alice, "k-1")
    assert first.status_code == second.status_code == 201
    assert first.json() == second.json()
    assert first["Location"] == second["Location"]
    assert Workflow.objects.count() == 1


def test_a_repetition_takes_no_token_but_a_new_request_does(alice: APIClient, set_env: Callable[..., None]) -> None:
    set_env(rate_limit_capacity=1, rate_limit_refill_per_second=0.001)
    assert post(alice, "k-1").status_code == 201
    assert [post(alice, "k-1").status_code for _ in range(5)] == [201] * 5
    assert post(alice, "k-2").status_code == 429


def test_the_same_key_with_another_body_is_refused_and_takes_no_token(alice: APIClient, set_env: Callable[..., None]) -> None:
    set_env(rate_limit_capacity=2, rate_limit_refill_per_second=0.001)
    post(alice, "k-1")
    assert [post(alice, "k-1", {**BODY, "name": "other"}).status_code for _ in range(3)] == [422] * 3
    assert post(alice, "k-2").status_code == 201


def test_the_same_key_of_another_user_is_another_key(alice: APIClient, bob: APIClient) -> None:
    assert post(alice, "same").json()["workflow_id"] != post(bob, "same").json()["workflow_id"]


def test_a_refused_request_does_not_use_up_its_key(alice: APIClient) -> None:
    assert post(alice, "k", {"jobs": []}).status_code == 400
    assert post(alice, "k").status_code == 201


@pytest.mark.django_db(transaction=True)
def test_equal_requests_at_once_make_one_workflow(transactional_db: None) -> None:
    start = threading.Barrier(4)

    def one(_: int) -> Any:
        start.wait()
        try:
            return post(client_of("crowd"), "k")
        finally:
            connection.close()

    client_of("crowd").get("/workflow")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(one, range(4)))
    assert [answer.status_code for answer in answers] == [201] * 4
    assert len({answer.json()["workflow_id"] for answer in answers}) == 1
    assert Workflow.objects.count() == 1


def test_a_key_older_than_a_day_is_free_again(alice: APIClient) -> None:
    first = post(alice, "k").json()
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=25))
    again = post(alice, "k", {**BODY, "name": "other"})
    assert again.status_code == 201
    assert again.json() != first


def test_the_answer_stays_when_the_workflow_is_gone(alice: APIClient) -> None:
    first = post(alice, "k").json()
    Workflow.objects.all().delete()
    assert post(alice, "k").json() == first


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "é", "a\tb"])
def test_a_malformed_key_is_refused_by_name(alice: APIClient, key: str) -> None:
    answer = post(alice, key)
    assert answer.status_code == 400
    assert list(answer.json()) == ["Idempotency-Key"]
    assert not Workflow.objects.exists()

"""Health, metrics, documents, and a database that does not answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client
from drf_spectacular.validation import validate_schema
from prometheus_client.parser import text_string_to_metric_families
from rest_framework.test import APIClient

from scheduling.models import SchedulerLease
from scheduling.selectors import disk, health, workflows
from tests.support.redis_server import RedisServer

OPEN = ["/healthz", "/metrics", "/schema", "/docs", "/redoc"]


@pytest.mark.django_db
@pytest.mark.parametrize("path", OPEN)
@pytest.mark.parametrize("user_id", [None, "a b"])
def test_open_pages_ask_for_no_identity(path: str, user_id: str | None) -> None:
    headers = {"X-User-ID": user_id} if user_id else {}
    assert Client(headers=headers).get(path).status_code == 200


def test_healthz_looks_at_nothing() -> None:
    """Without the fixture of the database, a query would raise."""
    assert Client().get("/healthz").json() == {"status": "ok"}


@pytest.mark.django_db
def test_readyz_names_what_is_down(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    SchedulerLease.objects.update(trusted_until=None)
    answer = Client().get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["down"] == ["scheduler", "workers"]
    redis_server.kill()
    try:
        parts = {"database": "ok", "redis": "down", "scheduler": "down", "workers": "down", "disk": "ok"}
        assert Client().get("/readyz").json()["checks"] == parts
        assert Client().get("/metrics").status_code == 200
    finally:
        redis_server.start()

    monkeypatch.setattr(health, "scheduler_alive", lambda: True)
    monkeypatch.setattr(health, "workers", lambda: [{"name": "w", "processes": 2}])
    answer = Client().get("/readyz")
    assert (answer.status_code, answer.json()["status"], answer.json()["down"]) == (200, "ok", [])


@pytest.mark.django_db
@pytest.mark.parametrize(("free", "down"), [(999_999_999, ["disk"]), (1_000_000_000, []), (None, ["disk"])])
def test_readyz_names_a_disk_that_is_nearly_full_or_away(monkeypatch: pytest.MonkeyPatch, free: int | None, down: list[str]) -> None:
    def usage(path: Path) -> Any:
        if free is None:
            raise FileNotFoundError(path)
        return SimpleNamespace(free=free)

    monkeypatch.setattr(disk.shutil, "disk_usage", usage)
    answer = Client().get("/readyz")
    assert [part for part in answer.json()["down"] if part == "disk"] == down
    assert answer.status_code == 503  # no scheduler leads here
    text = Client().get("/metrics").content.decode()
    assert ("workflow_disk_free_bytes" in text) == (free is not None)
    assert f'workflow_up{{part="disk"}} {0.0 if down else 1.0}' in text


@pytest.mark.django_db
def test_readyz_and_metrics_live_without_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(health.connection, "cursor", refuse)
    assert set(Client().get("/readyz").json()["down"]) >= {"database", "scheduler"}
    answer = Client().get("/metrics")
    assert answer.status_code == 200
    assert b'workflow_up{part="database"} 0.0' in answer.content


def test_metrics_count_jobs_and_workflows(alice: APIClient, submit: Callable[..., str]) -> None:
    submit()
    answer = alice.get("/metrics", HTTP_ACCEPT="application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")
    assert answer["Content-Type"].startswith("text/plain")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.content.decode())
        for sample in family.samples
    }
    assert samples["workflow_jobs", "PENDING"] == 2
    assert samples["workflow_jobs", "RUNNING"] == 0
    assert samples["workflow_workflows", "ACCEPTED"] == 1
    assert samples["workflow_waiting_users",] == 1
    assert samples["workflow_oldest_pending_seconds",] >= 0
    assert samples["workflow_disk_free_bytes",] > 0
    assert ("workflow_rate_limit_refused_total",) in samples


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_documents_ask_no_other_host_for_anything(path: str) -> None:
    answer = Client().get(path)
    page = answer.content.decode()
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page), page
    assert not re.search(r"<script(?![^>]*\bsrc=)", page), "an inline script"
    policy = answer["Content-Security-Policy"]
    assert "script-src 'self';" in f"{policy};"
    assert "style-src 'self' 'unsafe-inline'" in policy


def test_other_answers_keep_the_strict_policy() -> None:
    assert "unsafe-inline" not in Client().get("/healthz")["Content-Security-Policy"]


def test_swagger_loads_its_script_from_this_server() -> None:
    page = Client().get("/docs").content.decode()
    script = re.findall(r'<script src="(/docs\?script[^"]*)"', page)
    assert len(script) == 1
    answer = Client().get(script[0].replace("&amp;", "&"))
    assert answer["Content-Type"].startswith("application/javascript")
    assert b"SwaggerUIBundle" in answer.content
    assert b"validator.swagger.io" not in answer.content


def test_redoc_loads_a_script_that_fetches_no_logo() -> None:
    page = Client().get("/redoc").content.decode()
    script = re.findall(r'<script src="([^"]*)"', page)
    assert len(script) == 1
    assert script[0].startswith("?script=")
    answer = Client().get(f"/redoc{script[0]}")
    assert answer["Content-Type"].startswith("text/javascript")
    assert b"data:," in answer.content
    assert b"cdn.redoc" not in answer.content


def schema() -> Any:
    return Client().get("/schema?format=json").json()


def test_the_schema_is_valid_and_complete() -> None:
    document = schema()
    validate_schema(document)
    assert document["components"]["securitySchemes"]["X-User-ID"]["name"] == "X-User-ID"
    operations = {(path, method) for path, item in document["paths"].items() for method in item}
    job = "/workflow/{workflow_id}/job/{job_id}"
    assert operations == {
        *(("/workflow", method) for method in ("get", "post")),
        *(("/workflow/{workflow_id}", method) for method in ("get", "delete")),
        *((f"/workflow/{{workflow_id}}/{verb}", "post") for verb in ("cancel", "retry", "pause", "resume")),
        ("/workflow/{workflow_id}/events", "get"),
        *((f"{job}/{verb}", "post") for verb in ("cancel", "retry")),
        *((f"{job}/results{name}", "get") for name in ("", "/{name}")),
        *((f"{job}/{shown}", "get") for shown in ("tiles", "tiles/{index}", "overlay/{level}/{column}_{row}")),
        *(("/slide", method) for method in ("get", "post")),
        *(("/slide/{slide_id}", method) for method in ("get", "patch", "delete")),
        ("/workflow/batch", "post"),
        *(("/slide/{slide_id}/annotation", method) for method in ("get", "post")),
        *(("/slide/{slide_id}/annotation/{annotation_id}", method) for method in ("get", "delete")),
        ("/slide/{slide_id}/annotation/{annotation_id}/geojson", "get"),
        *((f"/slide/{{slide_id}}/{picture}", "get") for picture in ("thumbnail", "tile/{level}/{column}_{row}")),
        *(
            (path, "get")
            for path in ("/slide-root", "/slide-root/{root}", "/queue", "/job-types", "/model", "/healthz", "/readyz", "/metrics")
        ),
    }


def test_the_schema_shows_the_original_request() -> None:
    body = schema()["paths"]["/workflow"]["post"]["requestBody"]["content"]["application/json"]
    assert {"job_id": "j1", "branch": "b1", "job_type": "SEGMENT_CELLS"} in body["examples"]["TwoJobsOfOneBranch"]["value"]["jobs"]


def test_the_schema_is_yaml_for_those_who_do_not_ask() -> None:
    assert Client().get("/schema").content.startswith(b"openapi: 3.")


@pytest.mark.parametrize(
    ("path", "accept"),
    [("/workflow", "application/json"), ("/workflow", "text/html"), ("/ui", "text/html"), ("/slide", "application/json")],
)
def test_a_locked_database_is_503_and_worth_another_try(alice: APIClient, monkeypatch: pytest.MonkeyPatch, path: str, accept: str) -> None:
    from django.db.models.query import QuerySet

    alice.force_login(_account())

    def locked(*_: object, **__: object) -> None:
        raise OperationalError("database is locked")

    monkeypatch.setattr(QuerySet, "_fetch_all", locked)
    answer = alice.get(path, HTTP_ACCEPT=accept)
    assert answer.status_code == 503
    assert int(answer["Retry-After"]) >= 1


def _account() -> Any:
    from scheduling.models import User

    return User.objects.create_user("carla", password="correct horse")


def test_an_error_of_ours_is_json_without_its_details(alice: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(workflows, "workflow_query", broken)
    answer = alice.get("/workflow")
    assert answer.status_code == 500
    assert list(answer.json()) == ["detail"]
    assert b"secret detail" not in answer.content


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_a_document_page_refuses_what_is_no_reading(path: str) -> None:
    for method in ("OPTIONS", "POST", "DELETE"):
        assert Client(raise_request_exception=False).generic(method, path).status_code == 405


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_address_is_json_for_programs_and_a_page_for_people(method: str) -> None:
    for accept in ("", "*/*", "application/json"):
        answer = Client().generic(method, "/nope", HTTP_ACCEPT=accept)
        assert (answer.status_code, answer.json()) == (404, {"detail": "Not found."})
    for path, accept in (("/nope", "text/html,*/*;q=0.8"), ("/ui/nope", "*/*")):
        answer = Client().generic(method, path, HTTP_ACCEPT=accept)
        assert (answer.status_code, answer["Content-Type"]) == (404, "text/html; charset=utf-8")


def test_a_foreign_host_is_one_line_of_information_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for host in ("evil.example", "bad host\x1b[31m", "x" * 5000):
        caplog.clear()
        assert Client().get("/workflow", HTTP_HOST=host).status_code == 400
        (line,) = [record for record in caplog.records if record.name.startswith(("django", "scheduling"))]
        assert (line.levelname, line.exc_info, line.getMessage().count("\n")) == ("INFO", None, 0)
        assert "\x1b" not in line.getMessage()
        assert len(line.getMessage()) < 300


@pytest.mark.django_db
@pytest.mark.parametrize("host", ["10.1.2.3:8000", "evil.example", "bad host", ""])
def test_probes_are_answered_for_any_host_and_nothing_else_is(host: str) -> None:
    assert Client().get("/healthz", HTTP_HOST=host).status_code == 200
    assert Client().get("/readyz", HTTP_HOST=host).status_code in {200, 503}
    for path in ("/metrics", "/healthz/", "/", "/schema", "/static/nothing.css"):
        assert Client().get(path, HTTP_HOST=host).status_code == 400


def test_a_foreign_host_is_refused_in_the_words_of_who_asks() -> None:
    program = Client().get("/workflow", HTTP_HOST="evil.example")
    assert (program.status_code, list(program.json())) == (400, ["detail"])
    person = Client().get("/ui", HTTP_HOST="evil.example")
    assert (person.status_code, person["Content-Type"]) == (400, "text/html; charset=utf-8")

"""System checks: the production settings are clean, wrong combinations are named."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks

from scheduling.env import BASE_DIR
from tests.support.environment import SETTINGS


def manage(data_dir: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name not in {*SETTINGS, "DJANGO_SETTINGS_MODULE"}}
    environ |= {"DATA_DIR": str(data_dir), **settings}
    return subprocess.run([sys.executable, "manage.py", *arguments], cwd=BASE_DIR, env=environ, capture_output=True, text=True, check=False)


def test_production_settings_are_clean(tmp_path: Path) -> None:
    done = manage(
        tmp_path,
        "check",
        "--deploy",
        "--fail-level",
        "WARNING",
        SECRET_KEY="k" * 30 + "0123456789abcdefghijk",
        DEBUG="0",
        ALLOWED_HOSTS="slides.example.org",
    )
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


def test_the_schema_is_generated_without_a_warning(tmp_path: Path) -> None:
    done = manage(tmp_path, "spectacular", "--validate", "--fail-on-warn")
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr


def ids(**kwargs: Any) -> set[str]:
    return {str(message.id) for message in run_checks(**kwargs) if str(message.id).startswith("scheduling.")}


def test_the_settings_of_the_tests_are_clean() -> None:
    assert ids() == set()


def test_any_host_is_refused_outside_debug(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    assert ids() == {"scheduling.E001"}
    settings.DEBUG = True
    assert ids() == set()


def test_an_old_sqlite_is_refused(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.ENV = dataclasses.replace(settings.ENV, database_url=None)
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 31, 1))
    assert ids() == {"scheduling.E002"}


def test_plain_origins_are_refused_beside_https(settings: Any) -> None:
    settings.CSRF_TRUSTED_ORIGINS = ["http://slides.example.org"]
    assert ids() == set()
    settings.ENV = dataclasses.replace(settings.ENV, https=True)
    assert ids() == {"scheduling.E003"}


def test_a_trusted_header_and_embedded_processes_are_warned_of_when_others_reach_them(settings: Any) -> None:
    settings.ENV = dataclasses.replace(settings.ENV, trust_user_header=True, embedded=True, host="0.0.0.0")
    assert ids(include_deployment_checks=True) == {"scheduling.W001", "scheduling.W002"}
    settings.ENV = dataclasses.replace(settings.ENV, host="127.0.0.1")
    assert ids(include_deployment_checks=True) == set()

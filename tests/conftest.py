"""What every test gets: an environment of its own, Redis for all but the unit tests, and the choice of what can run here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support import environment, spreading

# First of all, before any module reads the environment.
DATA_DIR = environment.apply()

from tests.support.redis_server import RedisServer  # noqa: E402

TESTS = Path(__file__).parent
UNIT = TESTS / "unit"
#: As in the Makefile: the folders that are run again on PostgreSQL.
WITH_DATABASE = ("integration", "engine")
#: Folders of this name hold tests that import torch; a single test elsewhere is marked `torch`.
WITH_TORCH = "with_torch"
FAST_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
PLAIN_STATIC = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
DATABASE_FIXTURES = {"db", "transactional_db", "django_db_reset_sequences", "live_server"}


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a session whose settings were read before this file set the environment, or that lacks what it must have."""
    from workflowsite import settings

    if DATA_DIR.resolve() != settings.DATA_DIR:
        raise pytest.UsageError("unset DJANGO_SETTINGS_MODULE: the tests set their own environment before Django reads it")
    if os.environ.get("REQUIRE_BROWSER") == "1" and environment.find_browser() is None:
        raise pytest.UsageError("REQUIRE_BROWSER=1, but no Chromium was found")
    if os.environ.get("REQUIRE_POSTGRES") == "1" and not os.environ.get("TEST_DATABASE_URL"):
        raise pytest.UsageError("REQUIRE_POSTGRES=1, but TEST_DATABASE_URL is not set")
    if os.environ.get("REQUIRE_TORCH") == "1" and not environment.has_torch():
        raise pytest.UsageError("REQUIRE_TORCH=1, but torch and instanseg-torch are not installed")
    if os.environ.get("REQUIRE_NODE") == "1" and shutil.which("node") is None:
        raise pytest.UsageError("REQUIRE_NODE=1, but node is not installed")
    if os.environ.get("REQUIRE_OPENVINO") == "1" and not environment.has_openvino():
        raise pytest.UsageError("REQUIRE_OPENVINO=1, but openvino is not installed")
    # How fast an example is, is the benches' to tell.
    hypothesis.settings.register_profile("product", hypothesis.settings(), deadline=None)
    hypothesis.settings.load_profile("product")
    import django

    django.setup()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> spreading.Spread:
    """Tests that share what is dear run in one process."""
    return spreading.Spread(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Processes that tests are spread over find all kernels compiled, and begin as a session does, with an environment of their own."""
    del os.environ["DJANGO_SETTINGS_MODULE"]
    subprocess.run([sys.executable, "-m", "scheduling.worker.kernels"], cwd=TESTS.parent, check=True)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """A module that imports torch cannot be read without it (the header says so)."""
    return True if WITH_TORCH in collection_path.parts and not environment.has_torch() else None


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what the session wrote."""
    shutil.rmtree(DATA_DIR, ignore_errors=True)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what this session runs on."""
    browser = environment.find_browser() or "no Chromium found, the browser tests are left out"
    torch = "installed" if environment.has_torch() else "not installed, the tests that run a model are left out"
    torch += ", with OpenVINO" if environment.has_openvino() else ", without OpenVINO, whose tests are left out"
    return [f"database: {'PostgreSQL' if environment.is_postgres() else 'SQLite'}", f"browser: {browser}", f"torch: {torch}"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what touches the database, leave out what cannot run here (the header says why), and put first what takes long."""
    items.sort(key=lambda item: spreading.turn_of(item.nodeid))
    for item in items:
        if item.nodeid.startswith(spreading.LONG):
            item.add_marker("long")
        if item.nodeid.startswith(spreading.OF_WORKERS):
            item.add_marker("of_workers")
        if item.get_closest_marker("django_db") or DATABASE_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("database")
        if item.get_closest_marker("database") and not any(item.path.is_relative_to(TESTS / place) for place in WITH_DATABASE):
            raise pytest.UsageError(f"{item.nodeid} touches the database: only tests in {' and '.join(WITH_DATABASE)} run on PostgreSQL")
    unfit = [item for item in items if not _can_run(item)]
    if unfit:
        config.hook.pytest_deselected(items=unfit)
        items[:] = [item for item in items if item not in set(unfit)]


def _can_run(item: pytest.Item) -> bool:
    if item.get_closest_marker("browser") and environment.find_browser() is None:
        return False
    if item.get_closest_marker("openvino") and not environment.has_openvino():
        return False
    if item.get_closest_marker("torch") and not environment.has_torch():
        return False
    return environment.is_postgres() or not item.get_closest_marker("postgres")


@pytest.fixture(scope="session", autouse=True)
def _session_settings() -> Iterator[None]:
    """Passwords that hash quickly, and static files without the manifest that only collectstatic writes."""
    from django.conf import settings
    from django.test import override_settings

    with override_settings(PASSWORD_HASHERS=FAST_HASHERS, STORAGES={**settings.STORAGES, "staticfiles": PLAIN_STATIC}):
        yield


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The session's Redis, where the settings expect it: `.url`, `.restart()`, `.kill()`."""
    server = RedisServer(DATA_DIR / "redis" / "redis.sock")
    server.start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _clean_redis(request: pytest.FixtureRequest) -> Iterator[None]:
    """Redis runs for every test that is not a unit test, and is empty for the next one."""
    if request.path.is_relative_to(UNIT):
        yield
        return
    import redis

    server: RedisServer = request.getfixturevalue("redis_server")
    yield
    with redis.Redis.from_url(server.url) as client:
        client.flushall()


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium; tests that use it are marked `browser`."""
    found = environment.find_browser()
    assert found is not None
    return found

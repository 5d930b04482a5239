"""Fixtures of the engine's tests; what they hand out is in `harness.py`, which can only be imported once Django is ready."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from scheduling.models import User
    from tests.engine.harness import Engine, Worker


@pytest.fixture(scope="package")
def _worker(redis_server: RedisServer) -> Iterator[Worker]:
    from tests.engine.harness import Worker

    worker = Worker(redis_server.url)
    yield worker
    worker.stop()


@pytest.fixture
def worker(_worker: Worker) -> Worker:
    """A living worker; one for this package unless a test kills it."""
    if _worker.process is None or _worker.process.poll() is not None:
        _worker.start()
    return _worker


@pytest.fixture
def engine(transactional_db: None, redis_server: RedisServer, worker: Worker) -> Engine:
    """The loop with a worker, on an empty database."""
    from tests.engine.harness import Engine
    from workflowsite.celery import app

    app.set_default()
    return Engine(redis_server.url)


@pytest.fixture
def alice(transactional_db: None) -> User:
    """A user."""
    from scheduling.models import User

    return User.objects.create(username="alice")


@pytest.fixture
def bob(transactional_db: None) -> User:
    """Another user."""
    from scheduling.models import User

    return User.objects.create(username="bob")


@pytest.fixture
def new_worker(redis_server: RedisServer) -> Iterator[Callable[..., Worker]]:
    """Starts workers beside the package's own; all are gone at the end."""
    from tests.engine.harness import Worker

    started: list[Worker] = []

    def start(name: str, **options: object) -> Worker:
        worker = Worker(redis_server.url, name, **options)  # type: ignore[arg-type]
        worker.start()
        started.append(worker)
        return worker

    yield start
    for worker in started:
        if worker.process is not None and worker.process.poll() is None:
            os.killpg(worker.process.pid, signal.SIGCONT)
            worker.kill()

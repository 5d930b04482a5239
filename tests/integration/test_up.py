"""`manage.py up`, for real: it starts everything, brings back what dies, stops in order and says why it cannot start."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scheduling import kernel_cache
from scheduling.worker import kernels
from tests.support.product import Product
from tests.support.waiting import eventually
from workflowsite import embedded_redis

pytestmark = pytest.mark.engine


@pytest.fixture
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Product]]:
    """Makes products on one folder, whose path is short enough for a socket."""
    folder = tmp_path_factory.mktemp("p") / "d"
    made: list[Product] = []

    def make(**settings: str | int) -> Product:
        made.append(Product(settings.pop("folder", folder), **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.clean_up()


def test_whatever_dies_comes_back_and_a_stop_leaves_nothing(product: Callable[..., Product]) -> None:
    up = product().start().until_ready()
    assert up.status("/readyz") == 200
    for word in ("run_scheduler", "workflowsite.web", "celery", embedded_redis.find_server().name):
        pid = up.pid(word)
        assert pid, f"no {word} among {up.processes()}"
        assert os.getsid(pid) == pid, f"{word} shares a session with others, so Ctrl-C would reach it out of turn"
        os.kill(pid, signal.SIGKILL)
        eventually(lambda word=word, pid=pid: up.pid(word) not in {0, pid}, f"the return of {word}")  # type: ignore[misc]
    eventually(lambda: up.status("/readyz") == 200, "readiness again")
    assert "scheduler | killed by SIGKILL" in up.output
    up.signal(signal.SIGTERM)
    assert up.ended() == 0
    assert up.processes() == {}
    assert up.output.count("Ready: ") == 1
    stopped = [up.output.rindex(line) for line in ("stopping", "User requested shutdown")]
    assert stopped == sorted(stopped)


def test_a_gpu_worker_runs_beside_the_other_and_stops_with_it(product: Callable[..., Product]) -> None:
    up = product(GPU_WORKER="1", TORCH_DEVICE="cpu").start().until_ready()
    eventually(lambda: up.pid("--queues gpu"), "the gpu worker")
    pid = up.pid("--queues gpu")
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: up.pid("--queues gpu") not in {0, pid}, "its return")
    up.signal(signal.SIGTERM)
    assert up.ended() == 0
    assert up.processes() == {}


def test_a_gpu_worker_that_must_be_there_without_its_device_is_one_line_and_a_failure(product: Callable[..., Product]) -> None:
    up = product(GPU_WORKER="1", TORCH_DEVICE="cuda:77").start()
    assert up.ended() == 1
    (line,) = (line for line in up.output.splitlines() if line.startswith("error: "))
    assert line.startswith("error: GPU_WORKER='1': device failed: torch ")
    assert up.processes() == {}


def test_a_second_run_on_the_same_folder_is_refused_and_the_first_goes_on(product: Callable[..., Product]) -> None:
    first = product().start().until_ready()
    second = product().start()
    assert second.ended() == 1
    line = f"DATA_DIR='{first.data_dir}': another `make run` (process {first.process and first.process.pid}) is using it"
    assert line in second.output
    assert first.status("/readyz") == 200
    first.signal(signal.SIGINT)
    assert first.ended() == 0
    assert first.processes() == {}


def test_when_up_itself_is_killed_its_programs_end_by_themselves(product: Callable[..., Product]) -> None:
    up = product().start().until_ready()
    up.signal(signal.SIGKILL)
    up.ended()
    eventually(lambda: not up.processes(), "the end of its programs")


@pytest.mark.parametrize("with_parent", [False, True])
def test_after_a_kill_the_next_start_finds_nothing_in_its_way_even_where_a_worker_was_stopped(
    product: Callable[..., Product], with_parent: bool
) -> None:
    """Killed is `up` itself, or the `make` that started it, which then nobody can tell."""
    first = product().start(with_parent=with_parent).until_ready()
    left = first.processes()
    for pid in (pid for pid, line in left.items() if "celery" in line):
        os.kill(pid, signal.SIGSTOP)
    first.signal(signal.SIGKILL)
    first.ended()
    second = product().start().until_ready()
    assert not left.keys() & second.processes().keys()
    second.signal(signal.SIGTERM)
    assert second.ended() == 0
    assert second.processes() == {}


def test_without_kernels_it_is_ready_and_simulates_while_work_on_a_slide_waits_for_them(
    product: Callable[..., Product], tmp_path: Path
) -> None:
    kernels_folder = tmp_path / "kernels"
    # Compiled before, but not said to be complete: to find that out takes seconds, to compile takes a minute.
    shutil.copytree(os.environ[kernel_cache.VARIABLE], kernels_folder, ignore=shutil.ignore_patterns("complete-*"))
    with kernel_cache.compiling(kernels_folder):  # as if another process compiled
        up = product(NUMBA_CACHE_DIR=str(kernels_folder), DEMO="1", SIMULATED_SECONDS_PER_TILE="0").start().until_ready()
        (sample,) = up.ask("/workflow")["results"]
        eventually(lambda: kernels.WAITING in str(first_job(up, sample)["waiting_reason"]), "the reason")
        simulated = up.ask("/workflow", {"jobs": [{"job_id": "a", "branch": "b", "job_type": "SEGMENT_CELLS"}]}, user="other")
        eventually(lambda: up.ask(f"/workflow/{simulated['workflow_id']}", user="other")["status"] == "SUCCEEDED", "the simulation")
        assert first_job(up, sample)["state"] != "SUCCEEDED"
    eventually(lambda: first_job(up, sample)["state"] == "SUCCEEDED", "the work on the slide")
    up.signal(signal.SIGTERM)
    assert up.ended() == 0
    assert up.processes() == {}


def first_job(up: Product, workflow: dict[str, Any]) -> dict[str, Any]:
    """As the API shows it."""
    job: dict[str, Any] = up.ask(f"/workflow/{workflow['workflow_id']}")["jobs"][0]
    return job


def test_a_stop_in_the_middle_of_the_start_leaves_nothing(product: Callable[..., Product]) -> None:
    up = product().start()
    eventually(lambda: up.pid("prepare"), "the start of the migrations")
    up.signal(signal.SIGTERM)
    assert up.ended() == 0
    assert up.processes() == {}
    assert "Ready: " not in up.output


def test_a_port_that_is_taken_is_one_line_and_a_failure(product: Callable[..., Product]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        up = product(PORT=server.getsockname()[1]).start()
        assert up.ended() == 1
    assert up.output.splitlines() == [f"error: PORT={up.port}: 127.0.0.1:{up.port} is taken by another program; set PORT to a free one"]


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("MAX_WORKERS", "many", "must be a whole number"),
        ("RATE_LIMIT_CAPACITY", "-3", "must be at least 0"),
        ("REDIS_URL", "redis://127.0.0.1:1/0", "Redis does not answer"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line_and_a_failure(product: Callable[..., Product], name: str, value: str, reason: str) -> None:
    up = product(**{name: value}).start()
    assert up.ended() == 1
    (line,) = (line for line in up.output.splitlines() if line.startswith("error: "))
    assert line.startswith(f"error: {name}='{value}': ")
    assert reason in line
    assert "Traceback" not in up.output
    assert up.processes() == {}


def test_a_folder_that_cannot_be_written_is_one_line_and_a_failure(product: Callable[..., Product], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    up = product(DATA_DIR=str(tmp_path / "file" / "below")).start()
    assert up.ended() == 1
    assert len(up.output.splitlines()) == 1
    assert up.output.startswith("error: DATA_DIR=")


def test_a_database_that_cannot_be_reached_is_one_line_without_its_password_and_a_failure(product: Callable[..., Product]) -> None:
    up = product(DATABASE_URL="postgres://nobody:hush@127.0.0.1:1/none").start()
    assert up.ended() == 1
    (line,) = up.output.splitlines()
    assert line.startswith("error: DATABASE_URL: ")
    assert "hush" not in line


def test_a_step_that_fails_ends_the_start_with_its_last_line(product: Callable[..., Product]) -> None:
    """Static files cannot be collected where a file stands in the way."""
    up = product()
    (up.data_dir / "static").mkdir()
    (up.data_dir / "static" / "admin").write_text("")
    assert up.start().ended() == 1
    (line,) = (line for line in up.output.splitlines() if line.startswith("error: "))
    assert line.startswith("error: collectstatic failed: ")
    assert "Traceback" not in up.output
    assert up.processes() == {}

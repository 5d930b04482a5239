"""What `make run` runs: the command line of each program, its environment, and how each is asked to stop."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scheduling import kernel_cache, prepared
from scheduling.env import BASE_DIR, Environment
from workflowsite import embedded_redis, leftovers


@dataclass(frozen=True)
class StopStep:
    """A signal, and the seconds the program has before the next one."""

    signal: signal.Signals
    wait_s: float


@dataclass(frozen=True)
class Program:
    """A process that is started again whenever it dies."""

    name: str
    command: tuple[str, ...]
    #: SIGKILL to the whole group follows the last step.
    stop: tuple[StopStep, ...]


#: Workers hand in what they hold first, all at once, then nobody schedules, then nobody asks, and Redis goes last. The longest
#: waits of `stop` add up to 14 s, within the 15 s that a stop may take.
STOP_ORDER = (("worker", "gpu"), ("scheduler",), ("web",), ("redis",))
_QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING")
_CELERY = (sys.executable, "-m", "celery", "--quiet", "-A", "workflowsite.celery", "worker", *_QUIET)
MANAGE = (sys.executable, str(BASE_DIR / "manage.py"))

#: Where every program finds the lock of its run (`preflight.take_lock`), and what tells it that all is prepared (`prepared.py`).
LOCK_FD, PREPARED_FD = 3, 4


def redis_program(env: Environment) -> Program:
    """The embedded Redis. Raises embedded_redis.NoRedis."""
    command = embedded_redis.command(embedded_redis.find_server(), env.redis_socket)
    return Program("redis", tuple(command), (StopStep(signal.SIGTERM, 1),))


def web_program(env: Environment) -> Program:
    """HTTP and websockets."""
    options = ("-b", env.host.strip("[]"), "-p", str(env.port), "-v", "0", "--application-close-timeout", "1", "--no-server-name")
    return Program(
        "web", (sys.executable, "-m", "workflowsite.web", *options, "workflowsite.asgi:application"), (StopStep(signal.SIGTERM, 1.5),)
    )


def scheduler_program() -> Program:
    """The scheduler; a stop lets it write down what it holds."""
    return Program("scheduler", (*MANAGE, "run_scheduler"), (StopStep(signal.SIGTERM, 2.5),))


def worker_program(env: Environment) -> Program:
    """The local Celery worker. SIGTERM lets the bundles in hand finish (a warm stop), SIGQUIT drops them (a cold one)."""
    options = ("--pool", "prefork", "--concurrency", str(env.worker_processes), "--queues", "cpu", "--hostname", f"local-{env.port}@%h")
    return Program("worker", (*_CELERY, *options), (StopStep(signal.SIGTERM, 8), StopStep(signal.SIGQUIT, 1)))


def gpu_worker_program(env: Environment) -> Program:
    """The local worker of the queue gpu: one process, which holds the device. It ends between two bundles."""
    options = ("--pool", "solo", "--queues", "gpu", "--hostname", f"gpu-{env.port}@%h")
    return Program("gpu", (*_CELERY, *options), (StopStep(signal.SIGTERM, 9),))


def child_environment(env: Environment, environ: Mapping[str, str], mark: str = "") -> dict[str, str]:
    """The environment of every program: the one given, with everything written kept in DATA_DIR; only compiled kernels lie elsewhere."""
    return {
        **environ,
        "EMBEDDED": "1",
        "DATA_DIR": str(env.data_dir),
        "TMPDIR": str(env.data_dir / "tmp"),
        kernel_cache.VARIABLE: str(kernel_cache.folder(env.data_dir, environ)),
        "PYTHONUNBUFFERED": "1",
        leftovers.MARK: mark,
        prepared.VARIABLE: str(PREPARED_FD),
    }


def folders(env: Environment) -> tuple[Path, ...]:
    """The folders that must be there before anything starts."""
    names = ("tmp", "logs", "static", "slides", "results", "tiles", "redis")
    return tuple(env.data_dir / name for name in names)

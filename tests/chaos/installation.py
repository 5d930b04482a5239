"""What the faults hit: `manage.py up` on a folder of its own, a second worker and a standby scheduler beside it, kept alive."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from scheduling import env
from scheduling.env import BASE_DIR
from tests.chaos.database import ERRORS, Database
from tests.support.product import Product
from tests.support.waiting import eventually
from workflowsite import embedded_redis, programs
from workflowsite.monitor import kill_group, launched

PROCESSES = 2
MAX_WORKERS = 4
#: Long enough to have several leave and enter in a run of a minute.
SLOT_MAX_S = 20
TILE_S = 0.05
RESTART_AFTER_S = 0.5
STOP_WITHIN_S = 15.0


class Companion:
    """A program beside the product, started again when it dies, each time as head of its own process group."""

    def __init__(self, command: tuple[str, ...], environ: Mapping[str, str], log: Path) -> None:
        self._command, self._environ, self._log = command, dict(environ), log
        self._ended = threading.Event()
        # The kernel ends a program when the thread that started it ends: so one thread does both, and lives as long as the program.
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def start(self) -> Companion:
        """Start it."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """End it in order, then by force."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _keep(self) -> None:
        while not self._ended.is_set():
            process = self._launch()
            while process.poll() is None and not self._ended.wait(0.1):
                pass
            if self._ended.is_set():
                self._end(process)
            kill_group(process.pid)
            process.wait()
            self._ended.wait(RESTART_AFTER_S)

    def _launch(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as out:
            command = launched(self._command)
            return subprocess.Popen(command, cwd=BASE_DIR, env=self._environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=STOP_WITHIN_S)


class Installation:
    """Everything that runs. `root` holds DATA_DIR as `d`, and what was said beside it."""

    def __init__(self, database_url: str | None) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="chaos-"))
        settings: dict[str, Any] = {
            **{"RATE_LIMIT_CAPACITY": 0, "SIMULATED_SECONDS_PER_TILE": TILE_S, "USER_SLOT_MAX_SECONDS": SLOT_MAX_S},
            **{"WORKER_PROCESSES": PROCESSES, "MAX_WORKERS": MAX_WORKERS},
            **({"DATABASE_URL": database_url} if database_url else {}),
        }
        self.product = Product(self.root / "d", **settings)
        self.database = Database(database_url, self.data_dir / "db.sqlite3")
        self._companions: list[Companion] = []

    @property
    def data_dir(self) -> Path:
        """DATA_DIR."""
        return self.product.data_dir

    @property
    def environ(self) -> dict[str, str]:
        """Of the product's programs."""
        return programs.child_environment(env.read(self.product.environ), self.product.environ)

    def start(self) -> Installation:
        """Start it and wait until both workers and both schedulers are there."""
        self.product.start().until_ready()
        command = programs.worker_program(env.read(self.environ)).command
        place = command.index("--hostname") + 1
        second = (*command[:place], f"second-{self.product.port}@%h", *command[place + 1 :])
        standby = (sys.executable, str(BASE_DIR / "manage.py"), "run_scheduler")
        for name, program in (("second-worker", second), ("standby", standby)):
            self._companions.append(Companion(program, self.environ, self.root / f"{name}.log").start())
        eventually(lambda: len(self.children()) >= 2 * PROCESSES and self.standbys(), "the second worker and the standby", within_s=60)
        return self

    def stop(self) -> float:
        """Stop everything in order; the seconds that `up` took."""
        for companion in self._companions:
            companion.stop()
        process, began = self.product.process, time.monotonic()
        if process is not None and process.poll() is None:
            process.terminate()
            process.wait(timeout=4 * STOP_WITHIN_S)
        return time.monotonic() - began

    def clean_up(self) -> None:
        """End whatever is left, whatever state it is in, and remove the folder."""
        for companion in self._companions:
            companion.stop()
        self.product.clean_up()
        shutil.rmtree(self.root, ignore_errors=True)

    def resume_all(self) -> None:
        """Let everything that was stopped go on."""
        for pid in self.product.processes():
            with contextlib.suppress(psutil.Error):
                psutil.Process(pid).resume()

    # -- who is who

    def schedulers(self) -> list[psutil.Process]:
        """Leader and standbys."""
        return self._processes(lambda line: "run_scheduler" in line)

    def leader(self) -> list[psutil.Process]:
        """The process that holds the lease; none while nobody leads or the database is away."""
        try:
            holders = self.database.rows("SELECT holder FROM scheduling_schedulerlease")
        except ERRORS:
            return []
        pids = {int(holder.split("/")[1]) for (holder,) in holders if holder}
        return [process for process in self.schedulers() if process.pid in pids]

    def standbys(self) -> list[psutil.Process]:
        """Schedulers that do not lead."""
        leaders = self.leader()
        return [process for process in self.schedulers() if process not in leaders] if leaders else []

    def workers(self) -> list[psutil.Process]:
        """The workers' parents."""
        celery = self._celery()
        return [process for pid, process in celery.items() if _parent(process) not in celery]

    def children(self) -> list[psutil.Process]:
        """The workers' children, which compute."""
        celery = self._celery()
        return [process for pid, process in celery.items() if _parent(process) in celery]

    def web(self) -> list[psutil.Process]:
        """The web server."""
        return self._processes(lambda line: "workflowsite.web" in line)

    def redis(self) -> list[psutil.Process]:
        """The embedded Redis."""
        return self._processes(lambda line: "redis-server" in line or "valkey-server" in line)

    def redis_answers(self) -> bool:
        """Whether it is there."""
        return embedded_redis.answers(env.read(self.environ).redis_url)

    def _celery(self) -> dict[int, psutil.Process]:
        return {process.pid: process for process in self._processes(lambda line: "workflowsite.celery" in line)}

    def _processes(self, is_meant: Callable[[str], bool]) -> list[psutil.Process]:
        """In order of their start; those that are still becoming a program are left out."""
        found = []
        for pid, line in self.product.processes().items():
            if is_meant(line) and "scheduling.launch" not in line:
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(pid)
                    found.append((process.create_time(), process))
        return [process for _, process in sorted(found, key=lambda pair: (pair[0], pair[1].pid))]


def _parent(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except psutil.Error:
        return 0


def kept(installation: Installation, folder: Path) -> None:
    """Keep what the programs said, for whoever looks into a failed run."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for log in installation.root.glob("*.log"):
        shutil.copy(log, folder)
    if (logs := installation.data_dir / "logs").is_dir():
        shutil.copytree(logs, folder / "logs")

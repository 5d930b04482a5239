"""The whole product as a process: `manage.py up` on a folder and a port of the test's own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from scheduling.env import BASE_DIR
from tests.support.environment import SETTINGS
from tests.support.waiting import eventually

#: The code that runs: this one's, or, for `make bench`, that of another checkout to compare with.
CHECKOUT = Path(os.environ.get("BENCH_CHECKOUT", BASE_DIR))


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class Product:
    """Start it, look at its processes, stop it. `output` is what it has said so far; `checkout` may be that of another version."""

    def __init__(self, data_dir: Path, checkout: Path = CHECKOUT, **settings: str | int) -> None:
        self.data_dir = data_dir
        self.checkout = checkout
        self.port = int(settings.get("PORT", free_port()))
        data_dir.mkdir(exist_ok=True)
        self._log = data_dir.parent / f"{data_dir.name}.log"
        self.environ = {name: value for name, value in os.environ.items() if name not in {*SETTINGS, "DJANGO_SETTINGS_MODULE"}}
        defaults = {"DATA_DIR": str(data_dir), "PORT": str(self.port), "DEMO": "0", "WORKER_PROCESSES": "1", "GPU_WORKER": "0"}
        self.environ |= defaults | {name: str(value) for name, value in settings.items()}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, with_parent: bool = False) -> Product:
        """Start it, without waiting; `with_parent`: by another process, as make does, which is then `process`."""
        with self._log.open("ab") as out:
            command = [sys.executable, "manage.py", "up"]
            if with_parent:
                command = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])", *command, "--with-parent"]
            self.process = subprocess.Popen(command, cwd=self.checkout, env=self.environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        return self

    def until_ready(self) -> Product:
        """Wait for the line that says so."""
        eventually(self._is_ready, "Ready")
        return self

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.output
        return f"Ready: http://127.0.0.1:{self.port}/ui\n" in self.output

    def ended(self) -> int:
        """Wait for its end; the exit code."""
        assert self.process is not None
        return self.process.wait(timeout=180)

    @property
    def output(self) -> str:
        """Everything it has said."""
        return self._log.read_text(errors="replace")

    def status(self, path: str) -> int:
        """The status that it answers; 0 when it does not."""
        wire = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            wire.request("GET", path)
            return wire.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            wire.close()

    def ask(self, path: str, body: dict[str, Any] | None = None, user: str = "demo") -> Any:
        """The JSON that it answers to a GET, or to a POST of a body."""
        wire = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"X-User-ID": user, "Content-Type": "application/json"}
            wire.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body), headers)
            return json.loads(wire.getresponse().read())
        finally:
            wire.close()

    def processes(self) -> dict[int, str]:
        """pid → command line of everything that belongs to it, by its folder in the environment or the command line."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                    mine = f"DATA_DIR={self.data_dir}".encode() in (entry / "environ").read_bytes().split(b"\0")
                    if line and (mine or str(self.data_dir) in line):
                        found[int(entry.name)] = line
        return found

    def pid(self, word: str) -> int:
        """The oldest process whose command line has this word; 0 when there is none."""
        return min((pid for pid, line in self.processes().items() if word in line), default=0)

    def signal(self, number: signal.Signals) -> None:
        """To `up` alone."""
        assert self.process is not None
        self.process.send_signal(number)

    def clean_up(self) -> None:
        """Kill whatever is left."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        eventually(lambda: not [os.kill(pid, signal.SIGKILL) for pid in self.processes()], "the end of all processes")

"""A Redis of the tests' own, started with the product's command line."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.waiting import eventually
from workflowsite import embedded_redis


class RedisServer:
    """An embedded Redis on a socket; can be killed and started again, empty, in the middle of a test."""

    def __init__(self, socket: Path, server: Path | None = None) -> None:
        self.socket = socket
        self._server = server or embedded_redis.find_server()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For redis-py."""
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        """The process now running."""
        assert self._process is not None, "Redis has not been started"
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.socket.parent.mkdir(parents=True, exist_ok=True)
        log = self.socket.with_suffix(".log")
        with log.open("ab") as out:
            command = embedded_redis.command(self._server, self.socket)
            self._process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        eventually(self._has_started, f"an answer of {self._server}")

    def _has_started(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"Redis ended: {self.socket.with_suffix('.log').read_text()[-500:]}"
        return embedded_redis.answers(self.url)

    def kill(self) -> None:
        """SIGKILL: everything it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        """Kill it and start an empty one."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

"""Ask one thing again and again over kept connections, and print how long each answer took, in seconds, as JSON.

    python -m tests.bench.hammer PORT CONNECTIONS SECONDS STATUS < request

A process of its own that parses next to nothing, so that the server is what is measured. `@` in the request's head is each connection's number.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length: "


class Asker(asyncio.Protocol):
    """One connection, which asks again as soon as it is answered."""

    transport: asyncio.Transport

    def __init__(self, request: bytes, status: bytes, until: float) -> None:
        self._request = request
        self._expected = b"HTTP/1.1 " + status
        self._until = until
        self._received = b""
        self._asked_at = 0.0
        self.took_s: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask first."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Ask again when the answer is complete."""
        self._received += data
        head, found, body = self._received.partition(HEAD_END)
        if not found or len(body) < _length(head):
            return
        self.took_s.append(time.perf_counter() - self._asked_at)
        if not head.startswith(self._expected):
            self.done.set_exception(RuntimeError(self._received.decode(errors="replace")[:2000]))
        elif time.perf_counter() < self._until:
            self._ask()
            return
        else:
            self.done.set_result(None)
        self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """The server has closed."""
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("closed by the server"))

    def _ask(self) -> None:
        self._received = b""
        self._asked_at = time.perf_counter()
        self.transport.write(self._request)


def _length(head: bytes) -> int:
    lines = head.lower().split(b"\r\n")
    return next((int(line.removeprefix(LENGTH)) for line in lines if line.startswith(LENGTH)), 0)


async def hammer(request: bytes, port: int, connections: int, seconds: float, status: bytes) -> list[float]:
    """How long each answer took."""
    head, _, body = request.partition(HEAD_END)
    loop, until = asyncio.get_running_loop(), time.perf_counter() + seconds
    askers = []
    for number in range(connections):
        own = head.replace(b"@", str(number).encode()) + HEAD_END + body
        _, asker = await loop.create_connection(lambda own=own: Asker(own, status, until), "127.0.0.1", port)  # type: ignore[misc]
        askers.append(asker)
    await asyncio.gather(*(asker.done for asker in askers))
    return [took for asker in askers for took in asker.took_s]


def main() -> None:
    """Read the request, print the times."""
    port, connections, seconds, status = sys.argv[1:]
    times = asyncio.run(hammer(sys.stdin.buffer.read(), int(port), int(connections), float(seconds), status.encode()))
    json.dump(times, sys.stdout)


if __name__ == "__main__":
    main()

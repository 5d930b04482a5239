"""tools/install.py and what it tells uv, without a network: programs that write down how they were called stand in for pip and uv."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scheduling.env import BASE_DIR
from tests.support.waiting import PATIENCE_S, eventually
from tools import pip_settings

NOT_THERE = "/no/such/folder"


class Checkout:
    """A copy of the installer beside a `.venv` whose Python, pip and uv only note their calls in `calls`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.packages = folder / ".venv" / "lib"
        self.calls = folder / "calls"
        for part in ("tools", ".venv/bin", ".venv/lib"):
            (folder / part).mkdir(parents=True)
        for name in ("install.py", "pip_settings.py"):
            shutil.copy(BASE_DIR / "tools" / name, folder / "tools")
        for lock in ("requirements.txt", "requirements-uv.txt"):
            (folder / lock).write_text(f"{lock}==1 \\\n")
        self.program("python", f'case "$1" in -c) echo {self.packages};; *) echo "$@" >> {self.calls};; esac')
        self.program("uv", f"echo uv >> {self.calls}")

    def program(self, name: str, script: str) -> None:
        """A program of .venv that does as the script says."""
        path = self.folder / ".venv" / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def install(self, *more: str) -> subprocess.CompletedProcess[str]:
        """What `make run` calls first; with more words."""
        return subprocess.run([*self.command, *more], capture_output=True, text=True, check=False)

    @property
    def command(self) -> list[str]:
        """The command line."""
        return [sys.executable, str(self.folder / "tools" / "install.py"), "requirements.txt"]

    def called(self) -> list[str]:
        """The calls since the last question, by their last words."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return [line.split("/")[-1] for line in lines]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


ALL = ["requirements-uv.txt", "-m pip config list", "uv"]


def test_pip_installs_uv_and_uv_the_rest_and_a_second_start_does_nothing(checkout: Checkout) -> None:
    first = checkout.install()
    assert (first.returncode, first.stderr, len(first.stdout.splitlines())) == (0, "", 1)
    assert checkout.called() == ALL
    assert checkout.install().stdout == ""
    assert checkout.called() == []


def test_what_no_lock_names_is_installed_beside_the_locks_which_it_may_not_move(checkout: Checkout) -> None:
    checkout.install()
    checkout.called()
    checkout.program("uv", f'echo "$@" >> {checkout.calls}')
    assert checkout.install("--beside", "extra.txt").returncode == 0
    words = checkout.calls.read_text().splitlines()[-1].split()
    told = {option: Path(name).name for option, name in itertools.pairwise(words) if option in ("-r", "-c")}
    assert told == {"-r": "extra.txt", "-c": "requirements.txt"}


def test_a_changed_lock_is_installed_by_the_uv_that_is_there(checkout: Checkout) -> None:
    checkout.install()
    checkout.called()
    (checkout.folder / "requirements.txt").write_text("other==2 \\\n")
    checkout.install()
    assert checkout.called() == ALL[1:]


def test_an_install_that_fails_says_so_in_a_line_and_is_done_again_next_time(checkout: Checkout) -> None:
    checkout.program("uv", "exit 3")
    ended = checkout.install()
    assert ended.returncode == 1
    assert ended.stderr == "error: .venv/bin/uv pip install --quiet ended with 3; run it again to go on\n"
    checkout.program("uv", f"echo uv >> {checkout.calls}")
    checkout.called()
    checkout.install()
    assert checkout.called() == ALL[1:]


def test_packages_whose_installation_was_cut_off_count_as_absent(checkout: Checkout) -> None:
    whole, half = checkout.packages / "whole-1.dist-info", checkout.packages / "half-1.dist-info"
    for folder, files in ((whole, ("METADATA", "INSTALLER", "RECORD")), (half, ("METADATA", "RECORD"))):
        folder.mkdir()
        for name in files:
            (folder / name).touch()
    checkout.install()
    assert whole.exists()
    assert not half.exists()


def test_another_interpreter_behind_the_environment_is_noticed(checkout: Checkout) -> None:
    checkout.install()
    checkout.called()
    python = checkout.folder / ".venv" / "bin" / "python"
    python.rename(checkout.folder / "python3.14")
    python.symlink_to(checkout.folder / "python3.14")
    checkout.install()
    assert checkout.called() == ALL


def test_a_stop_ends_the_uv_that_runs(checkout: Checkout) -> None:
    begun = checkout.folder / "begun"
    checkout.program("uv", f"echo $$ > {begun}.new; mv {begun}.new {begun}; exec sleep 60")
    with subprocess.Popen(checkout.command, stdout=subprocess.DEVNULL) as process:
        eventually(begun.exists, "uv")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE_S) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(begun.read_text()), 0)


# ---- what uv is told ------------------------------------------------------------------------------------------------------
def told(settings: dict[str, str], **environ: str) -> dict[str, str]:
    """What uv gets beside the environment."""
    given: dict[str, str] = {"XDG_CONFIG_HOME": NOT_THERE, **environ}
    _, answer = pip_settings.for_uv(settings, given, "fallback")
    return {name: value for name, value in answer.items() if given.get(name) != value and name not in {"UV_CACHE_DIR", "UV_SYSTEM_CERTS"}}


CASES: list[tuple[dict[str, str], dict[str, str]]] = [
    ({"index-url": "https://i/simple"}, {"UV_DEFAULT_INDEX": "https://i/simple"}),
    ({"extra-index-url": "https://a\nhttps://b"}, {"UV_INDEX": "https://a https://b", "UV_INDEX_STRATEGY": "unsafe-best-match"}),
    ({"find-links": f"https://w {NOT_THERE} {BASE_DIR}"}, {"UV_FIND_LINKS": f"https://w,{BASE_DIR}"}),
    ({"find-links": NOT_THERE}, {}),
    (
        {"cert": "/ca.pem", "proxy": "http://p", "timeout": "9"},
        {"SSL_CERT_FILE": "/ca.pem", "ALL_PROXY": "http://p", "UV_HTTP_TIMEOUT": "9"},
    ),
    ({"no-cache-dir": "true"}, {"UV_NO_CACHE": "true"}),
    ({"no-cache-dir": "false", "keyring-provider": "auto"}, {}),
    ({"disable-pip-version-check": "1", "constraint": "/c.txt"}, {}),
]


@pytest.mark.parametrize(("settings", "expected"), CASES)
def test_settings_of_pip_are_told_to_uv_in_its_own_words(settings: dict[str, str], expected: dict[str, str]) -> None:
    assert told(settings) == expected


def test_what_is_set_for_uv_itself_comes_first(tmp_path: Path) -> None:
    assert told({"index-url": "https://pip"}, UV_INDEX_URL="https://uv") == {}
    assert told({"proxy": "http://pip"}, HTTPS_PROXY="http://uv") == {}
    file = tmp_path / "uv.toml"
    file.write_text('[[index]]\nurl = "https://uv"\n')
    assert told({"index-url": "https://pip", "timeout": "9"}, UV_CONFIG_FILE=str(file)) == {"UV_HTTP_TIMEOUT": "9"}


def test_variables_that_would_turn_uv_away_from_the_environment_or_the_hashes_are_dropped() -> None:
    _, environ = pip_settings.for_uv({}, {"UV_SYSTEM_PYTHON": "1", "UV_NO_VERIFY_HASHES": "1", "HOME": "/"}, "fallback")
    assert not {"UV_SYSTEM_PYTHON", "UV_NO_VERIFY_HASHES"} & set(environ)


def test_no_index_is_an_option_as_uv_has_no_variable_for_it() -> None:
    assert pip_settings.for_uv({"no-index": "1"}, {"XDG_CONFIG_HOME": NOT_THERE}, "fallback")[0] == ["--no-index"]


def test_uv_keeps_its_downloads_beside_pips_or_below_home_or_in_the_checkout(tmp_path: Path) -> None:
    assert pip_settings.cache_dir({"cache-dir": "/c"}, {}, "fallback") == "/c/uv"
    assert pip_settings.cache_dir({}, {"XDG_CACHE_HOME": str(tmp_path)}, "fallback") == f"{tmp_path}/uv"
    assert pip_settings.cache_dir({}, {"XDG_CACHE_HOME": "/proc/1/none"}, "fallback") == "fallback"


def test_the_environment_goes_before_pips_files_and_the_section_install_before_global(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "install.timeout='2'\nglobal.timeout='1'\nglobal.index-url='https://global'\n:env:.index-url='https://env'\nlist.format='x'\n"

    def answer(*_: Any, **__: Any) -> bytes:
        return said.encode()

    monkeypatch.setattr(subprocess, "check_output", answer)
    assert pip_settings.read("python") == {"timeout": "2", "index-url": "https://env"}

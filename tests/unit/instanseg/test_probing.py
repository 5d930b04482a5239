"""The process that looks at a model is bounded, is told no secret, and leaves nothing running; what it says is read with care."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from scheduling.instanseg import probing
from scheduling.instanseg.facts import ModelUnusable
from scheduling.instanseg.probing import probed
from tests.support.processes import is_alive
from tests.support.waiting import eventually

GB = 2**30


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A text that stands for the probe: what is written into it is run."""
    script = tmp_path / "script.py"
    run = probing._run
    monkeypatch.setattr(probing, "_run", lambda command, *rest: run([sys.executable, str(script), *command[3:]], *rest))
    return script


def refusal(program: Path, text: str, **bounds: float) -> str:
    program.write_text(text)
    with pytest.raises(ModelUnusable) as refused:
        probed(Path("model.pt"), program.parent, **bounds)  # type: ignore[arg-type]
    return str(refused.value)


def test_its_last_line_is_its_answer(program: Path) -> None:
    program.write_text("import sys; print('loading', sys.argv[1]); print('{\"facts\": {\"stride_px\": 8}}')")
    assert probed(Path("model.pt"), program.parent) == {"stride_px": 8}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('print(\'{"refused": "It has 1 channel."}\')', "It has 1 channel."),
        ('import sys; print(\'{"refused": "It has 1 channel."}\'); sys.exit(1)', "It has 1 channel."),
        ("", "The probe ended with exit code 0."),
        ("print('{}')", "The probe ended with exit code 0."),
        ("print('[1]')", "The probe ended with exit code 0."),
        ("print('{\"facts\": 3}')", "The probe ended with exit code 0."),
        ("raise ValueError('no')", "The probe ended with exit code 1: ValueError: no"),
        ("print('{\"facts\": {}}'); raise SystemExit(3)", "The probe ended with exit code 3."),
        ("import os; os.kill(os.getpid(), 9)", "The probe was killed by SIGKILL."),
    ],
)
def test_a_refusal_is_passed_on_and_any_other_end_is_told(program: Path, text: str, reason: str) -> None:
    assert refusal(program, text) == reason


def test_it_has_so_much_time_and_what_it_started_ends_with_it(program: Path, tmp_path: Path) -> None:
    text = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open({str(tmp_path / "pid")!r}, "w").write(str(child.pid))
time.sleep(60)
"""
    began = time.monotonic()
    assert refusal(program, text, within_s=3) == "The probe did not end within 3 s."
    assert time.monotonic() - began < 30
    pid = int((tmp_path / "pid").read_text())
    eventually(lambda: not is_alive(pid), "the end of what it started", within_s=10)


def test_it_has_so_much_memory(program: Path) -> None:
    assert "MemoryError" in refusal(program, f"bytearray({3 * GB})", memory_bytes=2 * GB)


def test_it_is_told_nothing_that_is_secret(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECRET_KEY", "DATABASE_URL", "REDIS_URL", "SOME_TOKEN"):
        monkeypatch.setenv(name, "hush")
    program.write_text("import json, os; print(json.dumps({'facts': dict(os.environ)}))")
    told = probed(Path("model.pt"), program.parent)
    assert "hush" not in told.values()
    assert told["PATH"]
    assert told["CUDA_VISIBLE_DEVICES"] == ""

"""A file from elsewhere is looked at in a process of its own, with bounds on time and memory: it holds code, and may be anything."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from scheduling import kernel_cache
from scheduling.instanseg.facts import ModelUnusable

_ROOT = Path(__file__).resolve().parents[2]
WITHIN_S = 600.0
#: Of addresses; torch maps some GB of libraries before it does anything.
MEMORY_BYTES = 24 * 2**30
#: All that the process is told of this one: no password, no key.
_TOLD = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "SYSTEMROOT")


def probed(file: Path, data_dir: Path, *, within_s: float = WITHIN_S, memory_bytes: int = MEMORY_BYTES) -> dict[str, Any]:
    """What the probe found out, as `facts` has it. Raises ModelUnusable with its refusal, or with how it ended."""
    output, errors, code = _run([sys.executable, "-m", "scheduling.instanseg.probe", str(file)], data_dir, within_s, memory_bytes)
    answer = _answer(output)
    if "refused" in answer:
        raise ModelUnusable(str(answer["refused"]))
    if code != 0 or not isinstance(answer.get("facts"), dict):
        raise ModelUnusable(f"The probe {_ending(code)}{_last_line(errors)}")
    facts: dict[str, Any] = answer["facts"]
    return facts


def _run(command: list[str], data_dir: Path, within_s: float, memory_bytes: int) -> tuple[str, str, int]:
    """(output, errors, exit code). Whatever it has started is killed with it."""
    told = {name: os.environ[name] for name in _TOLD if name in os.environ}
    environ = {**told, "CUDA_VISIBLE_DEVICES": "", kernel_cache.VARIABLE: str(kernel_cache.folder(data_dir))}

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(OSError):  # where memory runs out all the same, this goes first (Linux)
            Path("/proc/self/oom_score_adj").write_text("1000")

    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=_ROOT, env=environ, text=True, start_new_session=True, preexec_fn=bounded, **pipes) as process:
        try:
            output, errors = process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            raise ModelUnusable(f"The probe did not end within {within_s:.0f} s.") from None
        finally:
            _kill_group(process.pid)
    return output, errors, process.returncode


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _answer(output: str) -> dict[str, Any]:
    """The JSON object of the last line; {} when there is none."""
    try:
        answer = json.loads(output.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _ending(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _last_line(errors: str) -> str:
    lines = errors.strip().splitlines()
    return f": {lines[-1][:300]}" if lines else "."

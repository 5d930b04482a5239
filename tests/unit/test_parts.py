"""Parts of a check run side by side, fail the check when they fail, and are added up."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from scheduling.env import BASE_DIR
from tests.support.processes import is_alive
from tests.support.waiting import PATIENCE_S, eventually
from tools import parts

COMMAND = (sys.executable, str(BASE_DIR / "tools" / "parts.py"))


def run(book: Path, *commands: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, str(book), *commands], capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_parts_run_at_once_and_each_line_names_its_part(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    ended = run(tmp_path / "book", f"first=mkfifo {pipe}; cat {pipe}", f"second=until [ -p {pipe} ]; do :; done; echo hello > {pipe}")
    assert (ended.returncode, ended.stdout) == (0, "first  | hello\n")


def test_a_part_that_is_alone_reads_as_if_started_by_hand(tmp_path: Path) -> None:
    assert run(tmp_path / "book", "only=echo hello; echo there >&2").stdout == "hello\nthere\n"


def test_a_part_that_fails_fails_the_whole_and_is_named(tmp_path: Path) -> None:
    ended = run(tmp_path / "book", "good=true", "bad=exit 3")
    assert (ended.returncode, ended.stdout) == (1, "FAILED: bad (exit code 3)\n")


def test_the_table_adds_up_the_tests_of_all_parts_and_counts_a_failed_part_without_tests(tmp_path: Path) -> None:
    book = tmp_path / "book"
    run(
        book,
        "lint=false",
        "tests=echo '2 failed, 40 passed, 1 error in 3.20s'; false",
        "more=echo '=== 2 passed, 3 skipped in 1.00s (0:00:01) ==='",
    )
    *rows, last = run(book).stdout.splitlines()
    assert [row.split(maxsplit=1)[1] for row in rows] == ["part", "lint (failed)", "tests (failed)", "more", "all"]
    assert last.startswith("3 failed, 1 error, 42 passed, 3 skipped in ")


def test_minutes_of_parts_side_by_side_are_counted_once_in_the_whole() -> None:
    entries = [
        {"name": name, "began": began, "ended": ended, "code": 0, "tests": {}} for name, began, ended in [("a", 0, 120), ("b", 60, 180)]
    ]
    assert parts.table(entries) == ["minutes  part", "    2.0  a", "    2.0  b", "    3.0  all", "0 passed in 180.00s"]


def test_a_stop_reaches_what_the_parts_have_started(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    started = subprocess.Popen([*COMMAND, str(tmp_path / "book"), f"long=trap 'exit 7' TERM; touch {begun}; tail -f /dev/null & wait"])
    eventually(begun.exists, "the part's beginning")
    started.send_signal(signal.SIGTERM)
    assert started.wait(timeout=PATIENCE_S) == 1
    assert json.loads((tmp_path / "book").read_text())["code"] == 7


def test_what_a_part_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    left = tmp_path / "left"
    assert run(tmp_path / "book", f"careless=tail -f /dev/null & echo $! > {left}").returncode == 0
    eventually(lambda: not is_alive(int(left.read_text())), "the end of what was left")

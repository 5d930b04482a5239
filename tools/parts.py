"""Parts of a check, side by side: every line they say carries the part's name, and what each took is kept for one table at the end.

    python tools/parts.py BOOK NAME=COMMAND …    run these commands at once; exit code 1 when one of them failed
    python tools/parts.py BOOK                   the minutes of all parts in BOOK, and the tests of all of them in one line

A command is given to the shell. Of a part that is alone nothing is marked, so that it reads as if it had been started by hand.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

#: pytest's last line, such as "3 failed, 2840 passed in 301.25s (0:05:01)".
SUMMARY = re.compile(r"\d+ \w+.* in [\d.]+s\b")
OUTCOME = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed)\b")
STOPPED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Part:
    """A command that runs."""

    def __init__(self, name: str, command: str, mark: str) -> None:
        self.name, self._mark = name, mark
        self._began = time.time()
        self._tests: Counter[str] = Counter()
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            print(f"{self._mark}{line}", end="", flush=True)
            if SUMMARY.search(line):
                self._tests = Counter({outcome.rstrip("s"): int(number) for number, outcome in OUTCOME.findall(line)})

    def signal(self, number: int) -> None:
        """To the command and all that it has started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def ended(self) -> dict[str, Any]:
        """Wait for it, and end what it leaves behind, which could keep its output open for ever; what the book keeps of it."""
        code = self._process.wait()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._reader.join()
        return {"name": self.name, "began": self._began, "ended": time.time(), "code": code, "tests": self._tests}


def start(commands: list[tuple[str, str]]) -> list[Part]:
    """Start them; whoever stops this program stops all of them, also those that are only just being started."""
    parts: list[Part] = []
    received: list[int] = []

    def stop(number: int, _: object) -> None:
        received.append(number)
        for part in parts:
            part.signal(number)

    for number in STOPPED:
        signal.signal(number, stop)
    width = max(len(name) for name, _ in commands)
    for name, command in commands:
        parts.append(Part(name, command, f"{name:{width}} | " if len(commands) > 1 else ""))
        if received:
            parts[-1].signal(received[-1])
    return parts


def run(book: Path, commands: list[str]) -> int:
    """Run all of them and note them; 0 when none failed."""
    named = [command.partition("=") for command in commands]
    parts = start([(name, command) for name, _, command in named])
    ended = [part.ended() for part in parts]
    book.parent.mkdir(parents=True, exist_ok=True)
    with book.open("a") as out:
        out.writelines(json.dumps(entry) + "\n" for entry in ended)
    for entry in ended:
        if entry["code"]:
            print(f"FAILED: {entry['name']} (exit code {entry['code']})", flush=True)
    return int(any(entry["code"] for entry in ended))


def table(entries: list[dict[str, Any]]) -> list[str]:
    """Minutes by part, the whole from the first beginning to the last end, and one line of all tests as pytest writes it."""
    whole_s = max(entry["ended"] for entry in entries) - min(entry["began"] for entry in entries)
    rows = [(entry["ended"] - entry["began"], entry["name"] + (" (failed)" if entry["code"] else "")) for entry in entries]
    tests: Counter[str] = sum((Counter(entry["tests"]) for entry in entries), Counter())
    failed_parts = sum(1 for entry in entries if entry["code"] and not entry["tests"].get("failed") and not entry["tests"].get("error"))
    tests["failed"] += failed_parts
    told = ", ".join(f"{tests[word]} {word}" for word in ("failed", "error", "passed", "skipped") if tests[word] or word == "passed")
    return ["minutes  part", *(f"{seconds / 60:7.1f}  {name}" for seconds, name in [*rows, (whole_s, "all")]), f"{told} in {whole_s:.2f}s"]


def main(book: Path, commands: list[str]) -> int:
    """As the module says."""
    if commands:
        return run(book, commands)
    print("\n".join(table([json.loads(line) for line in book.read_text().splitlines()])))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))

"""Compile the .in files into locked requirements with hashes, or (--check) say whether the locks belong to them.

The check needs no network and takes no time: each lock's first lines carry a digest of the .in files it was made from.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: lock -> the files it depends on; the order is the order of compiling.
LOCKS = {
    "requirements.txt": ("requirements.in",),
    "requirements-dev.txt": ("requirements-dev.in", "requirements.txt"),
}
#: Locks are made on the oldest Python supported: its pins (and only its) install on the newer ones as well.
COMPILED_ON = (3, 11)
INDEX_LINE = re.compile(r"^\s*(-i\b|--(extra-)?index-url|--find-links|-f\b|--trusted-host)|://", re.MULTILINE)


def digest(names: tuple[str, ...]) -> str:
    """One digest of the files a lock depends on."""
    total = hashlib.sha256()
    for name in names:
        total.update((ROOT / name).read_bytes())
    return total.hexdigest()


def header(lock: str) -> str:
    """The first two lines of a lock."""
    return f"# Made by `make lock` from {LOCKS[lock][0]}; not edited by hand.\n# sha256 of its sources: {digest(LOCKS[lock])}\n"


def problems(lock: str) -> list[str]:
    """What is wrong with a lock as it stands."""
    text = (ROOT / lock).read_text()
    found = []
    if not text.startswith(header(lock)):
        found.append(f"{lock} was not made from the present {' and '.join(LOCKS[lock])}: run `make lock`")
    if INDEX_LINE.search(text):
        found.append(f"{lock} names a package index")
    if unhashed := [line for line in re.findall(r"^[\w.\[\]-]+==.*$", text, re.MULTILINE) if not line.endswith("\\")]:
        found.append(f"{lock} has no hash for {unhashed[0]}")
    return found


def compile_lock(lock: str, upgrade: bool) -> None:
    """Write one lock; versions already in it stay unless upgrading. Raises CalledProcessError."""
    command = [sys.executable, "-m", "piptools", "compile", "--quiet", "--generate-hashes", "--allow-unsafe", "--strip-extras"]
    command += ["--no-header", "--no-emit-index-url", "--no-emit-trusted-host", "--no-emit-find-links", f"--output-file={lock}"]
    subprocess.run([*command, *(["--upgrade"] if upgrade else []), LOCKS[lock][0]], cwd=ROOT, check=True)
    file = ROOT / lock
    file.write_text(header(lock) + file.read_text())


def main() -> int:
    """Compile, or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--upgrade", action="store_true")
    options = parser.parse_args()
    if not options.check:
        if sys.version_info[:2] != COMPILED_ON:
            sys.exit(f"error: locks are compiled on Python {'.'.join(map(str, COMPILED_ON))}; this is {sys.version.split()[0]}")
        for lock in LOCKS:
            compile_lock(lock, options.upgrade)
    found = [problem for lock in LOCKS for problem in problems(lock)]
    for problem in found:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

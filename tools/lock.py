"""Compile the .in files into locked requirements with hashes, or (--check) say whether the locks belong to them and can be installed everywhere.

One lock serves every Python and platform: uv resolves for all at once and marks what only some need. Each lock's first lines carry
a digest of the .in files it was made from. The check asks the operator's index whether each platform has its wheels; it builds and installs nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import pip_settings

ROOT = Path(__file__).resolve().parent.parent
UV = ROOT / ".venv" / "bin" / "uv"
#: lock -> the files it depends on; the order is the order of compiling.
LOCKS = {
    "requirements-uv.txt": ("requirements-uv.in",),
    "requirements.txt": ("requirements.in",),
    "requirements-dev.txt": ("requirements-dev.in", "requirements.txt"),
}
#: What is installed together, in one command each.
SETS = (("requirements.txt",), ("requirements-uv.txt", "requirements.txt", "requirements-dev.txt"))
OLDEST_PYTHON = "3.11.0"
#: redis needs async-timeout below 3.11.3; Debian 12 has 3.11.2.
PYTHONS = (OLDEST_PYTHON, "3.11.2", "3.12", "3.13", "3.14")
PLATFORMS = {
    "Linux x86-64": "x86_64-manylinux_2_28",
    "Linux arm64": "aarch64-manylinux_2_28",
    "macOS 15 arm64": "aarch64-apple-darwin",
}
MACOS = "15.0"
#: A resolution takes about a second, most of it waiting for the index.
AT_ONCE = 4
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
    # One index alone: what lies in others, or in folders, may be some of a version's files, and the lock needs the hashes of all.
    settings = {option: value for option, value in _pip_settings().items() if option not in ("extra-index-url", "find-links", "no-index")}
    command = [str(UV), "pip", "compile", "--quiet", "--universal", "--python-version", OLDEST_PYTHON, "--generate-hashes", "--no-header"]
    command += [f"--output-file={lock}", *(["--upgrade"] if upgrade else []), LOCKS[lock][0]]
    subprocess.run(command, cwd=ROOT, check=True, env=_environ(settings)[1])
    file = ROOT / lock
    file.write_text(header(lock) + file.read_text())


def _pip_settings() -> dict[str, str]:
    return pip_settings.read(sys.executable)


def _environ(settings: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    return pip_settings.for_uv(settings, os.environ, str(ROOT / ".cache" / "uv"))


def unresolved_anywhere() -> list[str]:
    """Every set of locks, Python and platform that does not go together."""
    options, environ = _environ(_pip_settings())
    environ["MACOSX_DEPLOYMENT_TARGET"] = MACOS
    with tempfile.TemporaryDirectory() as nowhere, ThreadPoolExecutor(AT_ONCE) as pool:
        # Into an empty folder: what .venv holds would count as there, whatever platform is asked for.
        dry_run = [str(UV), "pip", "install", "--dry-run", "--quiet", *options, "--python", sys.executable, "--target", nowhere]
        cases = itertools.product(SETS, PYTHONS, PLATFORMS)
        return [found for found in pool.map(lambda case: _unresolved(dry_run, environ, *case), cases) if found]


def _unresolved(dry_run: list[str], environ: dict[str, str], locks: tuple[str, ...], python: str, platform: str) -> str | None:
    """Why these locks cannot be installed from wheels on that Python and platform; None when they can."""
    options = ["--python-version", python, "--python-platform", PLATFORMS[platform], "--require-hashes", "--only-binary", ":all:"]
    named = [word for lock in locks for word in ("-r", lock)]
    ended = subprocess.run([*dry_run, *options, *named], cwd=ROOT, check=False, env=environ, capture_output=True, text=True)
    if ended.returncode == 0:
        return None
    return f"{' and '.join(locks)} cannot be installed with Python {python} on {platform}: {' '.join(ended.stderr.split())}"


def main() -> int:
    """Compile, or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--upgrade", action="store_true")
    options = parser.parse_args()
    if not options.check:
        for lock in LOCKS:
            compile_lock(lock, options.upgrade)
    found = [problem for lock in LOCKS for problem in problems(lock)] or (unresolved_anywhere() if options.check else [])
    for problem in found:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

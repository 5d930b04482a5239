"""The version before, from this repository's own history: unpacked into a folder and run with the packages of this one."""

from __future__ import annotations

import subprocess
from pathlib import Path

from scheduling.env import BASE_DIR

#: The last commit of the version before. Its code runs on the packages that are installed now; where that ends, a newer one is named.
COMMIT = "6c80fb26535a20ad3b41916d8571b525aa5462cd"
KERNELS = ("warm-nuclei", "warm-cells", "warm-models")


def unpack(folder: Path) -> Path:
    """Put the files of COMMIT into `folder`, which is made. AssertionError says what to do when this clone lacks the commit."""
    packed = subprocess.run(["git", "archive", "--format=tar", COMMIT], cwd=BASE_DIR, capture_output=True, check=False)
    why = packed.stderr.decode(errors="replace").strip()
    assert packed.returncode == 0, (
        f"commit {COMMIT} of the version before cannot be read: {why} (a shallow clone needs `git fetch --unshallow`)"
    )
    folder.mkdir(parents=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed.stdout, check=True)
    return folder


def kernels_as_if_compiled(folder: Path, host: str) -> Path:
    """A kernel cache in which the earlier version finds nothing to compile at its start: it does so when a job needs it."""
    folder.mkdir(parents=True)
    for name in KERNELS:
        for kind in ("torch", "plain"):
            (folder / f"{name}.{kind}.{host}").touch()
    return folder

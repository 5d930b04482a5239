"""`python -m scheduling.slides.synthetic.sample FILE`: the sample slide of a first start, written while everything else starts."""

from __future__ import annotations

import fcntl
import sys
from pathlib import Path

from scheduling.slides.synthetic.slide import write_sample


def ensure_sample(path: Path) -> None:
    """Have the sample slide there; of several that want it one writes, and the others wait for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            write_sample(path)


if __name__ == "__main__":
    ensure_sample(Path(sys.argv[1]))

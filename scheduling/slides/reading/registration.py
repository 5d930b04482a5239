"""A look at a file that a user gave us, in a process of its own: slide libraries are C code, and a damaged file may end theirs.

`python -m scheduling.slides.reading.registration FILE` prints what registration records, or the reason why the file is no slide.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from scheduling.errors import UnreadableSlide
from scheduling.slides.reading.interface import Level
from scheduling.slides.reading.reader import SlideInfo, describe

#: Time enough for a cold network share; what takes longer to open is of no use in a viewer either.
PATIENCE_S = 60.0
REFUSED = 3


def describe_apart(path: Path) -> SlideInfo:
    """As reader.describe, whatever the file does to the process that reads it. Raises UnreadableSlide."""
    command = [sys.executable, "-m", "scheduling.slides.reading.registration", str(path)]
    root = Path(__file__).resolve().parents[3]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise UnreadableSlide(f"The file could not be read within {PATIENCE_S:.0f} s.") from error
    if done.returncode == REFUSED:
        raise UnreadableSlide(done.stdout.decode(errors="replace").strip())
    if done.returncode != 0:
        raise UnreadableSlide("The file is damaged: reading it ended the program that tried.")
    found = json.loads(done.stdout)
    levels = tuple(Level(**level) for level in found["levels"])
    return SlideInfo(**{**found, "levels": levels, "warnings": tuple(found["warnings"])})


def main(path: Path) -> int:
    """Describe in this process, on standard output."""
    try:
        found = describe(path)
    except UnreadableSlide as error:
        sys.stdout.write(error.message)
        return REFUSED
    sys.stdout.write(json.dumps(asdict(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""Where slides lie: under DATA_DIR, or under a root that is only read. Links may lead about inside a root, never out of it.

Looked at whenever a slide is opened, not only when it is registered: what lies on a share may be replaced by a link later.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from scheduling.errors import UnreadableSlide
from scheduling.slides.reading.filesets import members

#: The folder of DATA_DIR from which users register by path.
SHELF = "slides"


class RootAway(Exception):
    """A root cannot be reached from here: not configured, or its share is not mounted. Waiting, or another host, may help."""


def located(data_dir: Path, roots: Mapping[str, Path], root: str, path: str) -> Path:
    """The file of a slide, links followed; `root` "" and a path relative to DATA_DIR, or a root's name and a path relative to it.

    Raises RootAway, UnreadableSlide when the file is not there any more or a link leads out.
    """
    if root == "" and not path.startswith(f"{SHELF}/"):
        return data_dir / path  # an upload, kept by ourselves
    if root and root not in roots:
        raise RootAway(f"the slide root {root} is not known here (SLIDE_ROOTS)")
    base, below = (roots[root], path) if root else (data_dir / SHELF, path.removeprefix(f"{SHELF}/"))
    file = inside(base, below, data_dir=data_dir)
    if not file.is_file():
        if root and is_away(base):
            raise RootAway(f"the slide root {root} is not there")
        raise UnreadableSlide("There is no such file any more.")
    return file


def inside(base: Path, path: str, *, data_dir: Path) -> Path:
    """What `path` names under `base`, links followed. Raises UnreadableSlide when it, or a file of its set, is elsewhere.

    Nor may a root lead into DATA_DIR, where the uploads of others are.
    """
    refused = UnreadableSlide("Must be a path below the root, without . or .. parts.")
    if path.startswith("/") or not path.isprintable() or {"..", "."} & set(path.split("/")) or len(path) > 1000:
        raise refused
    try:
        whole, ours, file = base.resolve(), data_dir.resolve(), (base / path).resolve()
    except (OSError, ValueError, RuntimeError):
        raise refused from None
    is_ours = whole.is_relative_to(ours)
    for found in (file, *_members(file)):
        if not found.is_relative_to(whole) or (found.is_relative_to(ours) and not is_ours):
            raise UnreadableSlide("A link leads out of the root.")
    return file


def is_away(base: Path) -> bool:
    """Whether a root looks like a share that is not mounted: no folder, or an empty one."""
    try:
        return next(base.iterdir(), None) is None
    except OSError:
        return True


def _members(file: Path) -> list[Path]:
    try:
        return [member.resolve() for member in members(file)] if file.is_file() else []
    except OSError as error:
        raise UnreadableSlide(f"The file cannot be read: {error.strerror}") from error

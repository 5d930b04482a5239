"""Slides in a folder of the server: which files, in which order, and their rows; those not registered yet are registered."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from django.conf import settings

from scheduling.errors import Invalid
from scheduling.models import Slide, User
from scheduling.services.slides import slide_register
from scheduling.slides.reader import fingerprint

#: Of formats that are one file, and of the file that names the others of a set.
_SUFFIXES = (".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif", ".czi", ".png", ".jpg", ".jpeg")
_MOST_LOOKED_AT = 100_000


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Files that a user asks for."""

    #: Below DATA_DIR/slides, or below a root; "" is all of it.
    path: str
    root: str | None = None
    recursive: bool = False
    #: Of file names; None: the extensions of slides.
    pattern: str | None = None


def base_of(user: User, root: str | None) -> Path:
    """Where paths of a root begin, for a user who may use it. Raises Invalid."""
    if root is not None:
        raise Invalid(f"There is no root {root!r}.", field="root")
    base: Path = settings.DATA_DIR / "slides"
    return base


def files_in(user: User, folder: Folder, *, most: int) -> list[str]:
    """Matching files, as paths that registration takes, sorted; hidden ones and links to folders are passed over. Raises Invalid."""
    base = base_of(user, folder.root)
    start = _inside(base, folder.path)
    found = sorted(path.relative_to(base).as_posix() for path in _walk(start, folder))
    if not found:
        raise Invalid("No file in it matches.", field="folder")
    if len(found) > most:
        raise Invalid(f"{len(found):,} files match; a batch takes at most {most:,}.", field="folder")
    return found


def slide_at(*, user: User, path: str, root: str | None = None) -> Slide:
    """The user's slide at this path, registered now if it is not yet, or if the file has changed. Raises Invalid, UnreadableSlide."""
    file = base_of(user, root) / path
    known = Slide.objects.filter(owner=user, is_upload=False, deleted_at__isnull=True, path=str(file.relative_to(settings.DATA_DIR)))
    slide = known.order_by("-created_at", "-id").first()
    if slide is not None and slide.fingerprint == fingerprint(file):
        return slide
    return slide_register(user=user, path=path)


def _inside(base: Path, path: str) -> Path:
    """The folder that `path` names, links followed. Raises Invalid when it leads out, or is no folder."""
    refused = Invalid("Must be a folder below the slides of this server, without . or .. parts.", field="folder")
    if not path.isprintable() or path.startswith("/") or (path and {"", ".", ".."} & set(path.split("/"))):
        raise refused
    try:
        whole, folder = base.resolve(), (base / path).resolve()
    except (OSError, ValueError, RuntimeError):
        raise refused from None
    if not folder.is_relative_to(whole) or not folder.is_dir():
        raise refused
    return base / path


def _walk(start: Path, folder: Folder) -> Iterator[Path]:
    """Raises Invalid when there is too much to look at."""
    seen = 0
    for place, folders, files in os.walk(start):
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if folder.recursive else []
        seen += len(files)
        if seen > _MOST_LOOKED_AT:
            raise Invalid(f"There are more than {_MOST_LOOKED_AT:,} files in it; name a smaller folder.", field="folder")
        yield from (Path(place, name) for name in files if not name.startswith(".") and _matches(name, folder.pattern))


def _matches(name: str, pattern: str | None) -> bool:
    if pattern is None:
        return name.lower().endswith(_SUFFIXES)
    return fnmatchcase(name.lower(), pattern.lower())

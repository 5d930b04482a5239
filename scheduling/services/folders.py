"""Slide files in a folder of the server: which, and in which order."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from scheduling.env import DEFAULT_ROOT
from scheduling.errors import Invalid, NotFound
from scheduling.models import User
from scheduling.selectors.roots import base_of, folder_of
from scheduling.slides.reading.filesets import SUFFIXES, dicom_series

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


def files_in(user: User, folder: Folder, *, most: int) -> list[str]:
    """Matching files, as paths that registration takes, sorted; hidden ones and links to folders are passed over. Raises Invalid."""
    base = base_of(user, folder.root)
    start = _inside(base, folder)
    found = sorted(path.relative_to(base).as_posix() for path in _one_of_each_series(_walk(start, folder)))
    if not found:
        raise Invalid("No file in it matches.", field="folder")
    if len(found) > most:
        raise Invalid(f"{len(found):,} files match; a batch takes at most {most:,}.", field="folder")
    return found


def _inside(base: Path, folder: Folder) -> Path:
    """The folder that is named, links not yet followed. Raises Invalid when it leads out, or is no folder."""
    try:
        folder_of(base, folder.path, folder.root or DEFAULT_ROOT)
    except NotFound as error:
        raise Invalid(error.message, field="folder") from error
    return base / folder.path


def _walk(start: Path, folder: Folder) -> Iterator[Path]:
    """Raises Invalid when there is too much to look at."""
    seen = 0
    for place, folders, files in os.walk(start):
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if folder.recursive else []
        seen += len(files)
        if seen > _MOST_LOOKED_AT:
            raise Invalid(f"There are more than {_MOST_LOOKED_AT:,} files in it; name a smaller folder.", field="folder")
        yield from (Path(place, name) for name in files if not name.startswith(".") and _matches(name, folder.pattern))


def _one_of_each_series(files: Iterable[Path]) -> list[Path]:
    """Without the further files of DICOM series: the first stands for all."""
    found = list(files)
    dicom = [file for file in found if file.suffix.lower() == ".dcm"]
    further = set(dicom) - set(dicom_series(dicom)) if dicom else set()
    return [file for file in found if file not in further]


def _matches(name: str, pattern: str | None) -> bool:
    if pattern is None:
        return name.lower().endswith(SUFFIXES)
    return fnmatchcase(name.lower(), pattern.lower())

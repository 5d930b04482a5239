"""Folders of the server from which a user may register slides: DATA_DIR/slides, and those of SLIDE_ROOTS that the groups open.

A root that a user may not use answers as one that does not exist.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from django.conf import settings

from scheduling.env import DEFAULT_ROOT
from scheduling.errors import Invalid, NotFound, UnreadableSlide
from scheduling.models import Slide, User
from scheduling.slides.reading.filesets import SUFFIXES
from scheduling.slides.reading.places import SHELF, inside, is_away

#: Names that are read of one folder before it is refused.
MOST_ENTRIES = 100_000


def root_paths() -> Mapping[str, Path]:
    """Where the roots of SLIDE_ROOTS lie on this host, by name."""
    return {root.name: root.path for root in settings.ENV.slide_roots}


def roots_for(user: User) -> dict[str, Path]:
    """Every root that the user may use, by name; DATA_DIR/slides first."""
    own = set(user.groups.values_list("name", flat=True))
    allowed = [root for root in settings.ENV.slide_roots if user.is_staff or not root.groups or own & set(root.groups)]
    return {DEFAULT_ROOT: settings.DATA_DIR / SHELF, **{root.name: root.path for root in allowed}}


def base_of(user: User, root: str | None) -> Path:
    """Where paths of a root begin, for a user who may use it. Raises Invalid."""
    roots = roots_for(user)
    name = root or DEFAULT_ROOT
    if name not in roots:
        raise Invalid(f"There is no root {name!r}.", field="root")
    return roots[name]


def stored_place(root: str | None, path: str) -> tuple[str, str]:
    """(root, path) as a slide's row has them: DATA_DIR/slides is no root there, its paths begin with slides/."""
    return ("", f"{SHELF}/{path}") if root in (None, DEFAULT_ROOT) else (str(root), path)


def shown_place(slide: Slide) -> tuple[str | None, str | None]:
    """(root, path) as users register by them; (None, None) of an upload."""
    if slide.is_upload:
        return None, None
    return (slide.root, slide.path) if slide.root else (DEFAULT_ROOT, slide.path.removeprefix(f"{SHELF}/"))


def folder_read(*, user: User, root: str, folder: str = "", after: str = "", limit: int = 200) -> dict[str, Any]:
    """Folders and slide files in a folder, in order of name, from the first name behind `after`.

    Raises NotFound when there is no such root or folder, Invalid for a path that leads out, a share that is away, or too many files.
    """
    roots = roots_for(user)
    if root not in roots:
        raise NotFound
    place = folder_of(roots[root], folder, root)
    found = sorted((entry for entry in _shown(place) if entry.name > after), key=lambda entry: entry.name)
    page = [_entry(entry, folder) for entry in found[:limit]]
    known = _registered(user, root, [entry["path"] for entry in page])
    entries = [{**entry, "slide_id": known.get(entry["path"])} for entry in page]
    return {"root": root, "folder": folder, "entries": entries, "next": page[-1]["name"] if len(found) > limit else None}


def folder_of(base: Path, folder: str, root: str) -> Path:
    """The folder below a root, links followed. Raises Invalid, NotFound."""
    if folder and {"", ".", ".."} & set(folder.split("/")):
        raise Invalid("Must be a folder below the root, without . or .. parts.", field="folder")
    try:
        place = inside(base, folder, data_dir=settings.DATA_DIR)
    except UnreadableSlide as error:
        raise Invalid(error.message, field="folder") from error
    if place.is_dir():
        return place
    if root != DEFAULT_ROOT and is_away(base):
        raise Invalid(f"The root {root} is not there at the moment.", field="root")
    raise NotFound("There is no such folder.")


def _shown(place: Path) -> Iterator[os.DirEntry[str]]:
    """Raises Invalid when there is too much to look at."""
    try:
        with os.scandir(place) as entries:
            for count, entry in enumerate(entries):
                if count >= MOST_ENTRIES:
                    raise Invalid(f"There are more than {MOST_ENTRIES:,} files in it.", field="folder")
                is_slide = entry.name.lower().endswith(SUFFIXES)
                if entry.name.isprintable() and not entry.name.startswith(".") and (is_slide or entry.is_dir()):
                    yield entry
    except OSError as error:
        raise Invalid(f"It cannot be read: {error.strerror}", field="folder") from error


def _entry(entry: os.DirEntry[str], folder: str) -> dict[str, Any]:
    is_folder = entry.is_dir()
    try:
        size = None if is_folder else entry.stat().st_size
    except OSError:  # a link that leads nowhere
        size = None
    return {"name": entry.name, "path": f"{folder}/{entry.name}" if folder else entry.name, "is_folder": is_folder, "size_bytes": size}


def _registered(user: User, root: str, paths: list[str]) -> dict[str, str]:
    """The user's newest slide of each path."""
    places = {stored_place(root, path)[1]: path for path in paths}
    slides = Slide.objects.filter(owner=user, is_upload=False, deleted_at__isnull=True, root=stored_place(root, "")[0], path__in=places)
    return {places[slide.path]: str(slide.pk) for slide in slides.order_by("created_at", "id")}

"""Use cases of slides: upload, register, state the resolution, delete. Reading and copying happen outside transactions."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from scheduling.errors import Conflict, Invalid, TooLarge, UnreadableSlide
from scheduling.models import Event, Job, Slide, User
from scheduling.selectors.roots import base_of, stored_place
from scheduling.slides.reading.archives import looks_like_zip, unpack
from scheduling.slides.reading.filesets import dicom_series, is_single, main_file
from scheduling.slides.reading.interface import PLAUSIBLE_MPP
from scheduling.slides.reading.places import inside, is_away
from scheduling.slides.reading.reader import fingerprint
from scheduling.slides.reading.registration import describe_apart
from scheduling.states import UNFINISHED
from scheduling.store.trash import discard
from scheduling.store.users import lock_users

#: An upload that has not grown for so long has nobody behind it.
ABANDONED_S = 24 * 3600.0
_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,8}\Z")


class Incoming:
    """An upload on its way: a file under DATA_DIR/tmp that is either kept as a slide or gone when the block ends."""

    def __init__(self, name: str) -> None:
        self.id: UUID = uuid4()
        #: What the client called the file; shown, never used as a path.
        self.name = clean_name(name)
        self.size = 0
        _sweep(settings.DATA_DIR / "tmp")
        self._folder: Path = settings.DATA_DIR / "tmp" / f"upload-{self.id}"
        self._folder.mkdir(parents=True)
        self.path = self._folder / f"slide{_extension(self.name)}"
        self._file = self.path.open("xb")

    def write(self, chunk: bytes) -> None:
        """Append. Raises TooLarge beyond MAX_UPLOAD_BYTES."""
        self.size += len(chunk)
        if self.size > settings.ENV.max_upload_bytes:
            raise TooLarge
        self._file.write(chunk)

    def close(self) -> None:
        """No more will be written."""
        self._file.close()

    def unpack(self) -> None:
        """Put the files of a ZIP archive in its place; the one to open is the upload from now on. Raises TooLarge, UnreadableSlide."""
        folder = self._folder / "set"
        unpack(self.path, folder, most_bytes=settings.ENV.max_upload_bytes)
        self.path.unlink()
        self.path = main_file(folder)
        self.name = clean_name(self.path.name)

    def keep(self) -> Path:
        """Move the files to their place among the uploads; the new path of the one to open."""
        target: Path = settings.DATA_DIR / "uploads" / str(self.id)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._folder.rename(target)
        return target / self.path.relative_to(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def slide_upload(*, user: User, name: str, chunks: Iterable[bytes]) -> Slide:
    """Keep an upload as a slide of the user. Raises TooLarge, UnreadableSlide; what was refused leaves no file."""
    with Incoming(name) as incoming:
        for chunk in chunks:
            incoming.write(chunk)
        return slide_receive(user=user, incoming=incoming)


def slide_receive(*, user: User, incoming: Incoming) -> Slide:
    """Keep a complete upload as a slide of the user: one file, or a ZIP archive of a slide's files. Raises TooLarge, UnreadableSlide."""
    incoming.close()
    try:
        if looks_like_zip(incoming.path):
            incoming.unpack()
        elif not is_single(incoming.path):  # a list of further files could name anything
            raise UnreadableSlide("The file is in no single-file slide format that is known here.")
        described = _describe(incoming.path)
    except UnreadableSlide as error:
        raise UnreadableSlide(error.message, field="file") from error
    path = str(incoming.keep().relative_to(settings.DATA_DIR))
    try:
        return _insert(user, name=incoming.name, path=path, is_upload=True, id=incoming.id, **described)
    except BaseException:
        discard(settings.DATA_DIR, settings.DATA_DIR / "uploads" / str(incoming.id))
        raise


def slide_register(*, user: User, path: str, root: str | None = None) -> Slide:
    """Register a file, or a folder of one DICOM series, that lies under a root (None: DATA_DIR/slides), where `path` begins.

    No `..`, no absolute path, and no symbolic link that leads out: the files stay where they are and are never changed.
    Raises Invalid, UnreadableSlide (an Invalid).
    """
    base = base_of(user, root)
    if not path:
        raise Invalid("Must be a path below the root.", field="path")
    try:
        file = inside(base, path, data_dir=settings.DATA_DIR)
        first = _first_of(file)
        if not first.is_file() and root and is_away(base):
            raise Invalid(f"The root {root} is not there at the moment.", field="root")
        described = _describe(first)
    except UnreadableSlide as error:
        raise UnreadableSlide(error.message, field="path") from error
    stored_root, stored = stored_place(root, path if first == file else f"{path}/{first.name}")
    return _insert(user, name=clean_name(path), root=stored_root, path=stored, is_upload=False, **described)


def slide_at(*, user: User, path: str, root: str | None = None) -> Slide:
    """The user's slide at this path, registered now if it is not yet, or if the file has changed. Raises Invalid, UnreadableSlide."""
    stored_root, stored = stored_place(root, path)
    known = Slide.objects.filter(owner=user, is_upload=False, deleted_at__isnull=True, root=stored_root, path=stored)
    slide = known.order_by("-created_at", "-id").first()
    if slide is not None and slide.fingerprint == fingerprint(inside(base_of(user, root), path, data_dir=settings.DATA_DIR)):
        return slide
    return slide_register(user=user, path=path, root=root)


def slide_update(*, slide: Slide, mpp: float) -> Slide:
    """State the resolution, in microns per pixel. Raises Invalid when implausible, Conflict while an unfinished job counts on another."""
    low, high = PLAUSIBLE_MPP
    if not low <= mpp <= high:
        raise Invalid(f"Microns per pixel must be between {low:g} and {high:g}.", field="mpp")
    with transaction.atomic():
        lock_users([slide.owner_id])
        slide = Slide.objects.get(pk=slide.pk)
        if slide.mpp == mpp:
            return slide
        _refuse_in_use(slide)
        slide.mpp, slide.mpp_source, slide.mpp_from = mpp, "owner", ""
        slide.save(update_fields=["mpp", "mpp_source", "mpp_from"])
        _log("slide.updated", slide, actor=slide.owner.username)
    return slide


def slide_delete(*, slide: Slide, actor: str) -> None:
    """Delete a slide and, if it was uploaded, its file. Raises Conflict while an unfinished job uses it.

    Finished jobs keep their results; the row stays, hidden, for as long as one of them names it.
    """
    with transaction.atomic():
        lock_users([slide.owner_id])
        _refuse_in_use(slide)
        gone = Slide.objects.filter(pk=slide.pk, deleted_at__isnull=True).update(deleted_at=timezone.now())
        Slide.objects.filter(owner_id=slide.owner_id, deleted_at__isnull=False, jobs__isnull=True).delete()
        if gone:
            _log("slide.deleted", slide, actor=actor)
    if slide.is_upload:
        discard(settings.DATA_DIR, settings.DATA_DIR / "uploads" / str(slide.pk))


def clean_name(name: str) -> str:
    """The last part of a file name, printable and at most 255 characters."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(c for c in last if c.isprintable()).strip()[:255] or "slide"


def _sweep(folder: Path) -> None:
    """Remove what uploads left that a process took with it when it died; one that goes on writes more often than that."""
    for file in folder.glob("upload-*/*"):  # the file, and what a ZIP archive of it is unpacked to
        with suppress(FileNotFoundError):
            if time.time() - file.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(file.parent, ignore_errors=True)


def _extension(name: str) -> str:
    found = _EXTENSION.search(name)
    return found.group().lower() if found else ""


def _first_of(file: Path) -> Path:
    """The file to open: of a folder with one DICOM series its first. Raises UnreadableSlide when there are several."""
    if not file.is_dir():
        return file
    series = dicom_series(entry for entry in file.iterdir() if entry.is_file() and not entry.is_symlink())
    if len(series) > 1:
        raise UnreadableSlide(f"The folder holds {len(series):,} DICOM series; name a file of the one that is wanted.")
    return series[0] if series else file


def _describe(path: Path) -> dict[str, Any]:
    info = describe_apart(path)
    return {
        "size_bytes": info.size_bytes,
        "fingerprint": info.fingerprint,
        "width": info.width,
        "height": info.height,
        "mpp": info.mpp,
        "mpp_source": "" if info.mpp is None else "file",
        "mpp_from": info.mpp_from[:64],
        "warnings": list(info.warnings),
        "levels": [asdict(level) for level in info.levels],
        "format": info.format[:64],
    }


def _insert(user: User, **fields: Any) -> Slide:
    with transaction.atomic():
        slide = Slide.objects.create(owner=user, **fields)
        _log("slide.added", slide, actor=user.username)
    return slide


def _refuse_in_use(slide: Slide) -> None:
    if Job.objects.filter(slide=slide, state__in=UNFINISHED).exists():
        raise Conflict("An unfinished job uses this slide.")


def _log(kind: str, slide: Slide, *, actor: str) -> None:
    Event.objects.create(type=kind, user_id=slide.owner_id, actor=actor, data={"slide": str(slide.pk), "name": slide.name})

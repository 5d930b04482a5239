"""Use cases of slides: upload, register, state the resolution, delete. Reading and copying happen outside transactions."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from scheduling.engine.store.users import lock_users
from scheduling.engine.trash import discard
from scheduling.errors import Conflict, Invalid, TooLarge, UnreadableSlide
from scheduling.models import Event, Job, Slide, User
from scheduling.slides.interface import PLAUSIBLE_MPP
from scheduling.slides.registration import describe_apart
from scheduling.states import UNFINISHED

#: Beginnings of formats that are one file. Others are lists of further files, which an upload could make name anything.
_CONTAINERS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"ZISRAWFILE", b"SQLite format 3\0")
_DICOM = b"DICM"
_DICOM_OFFSET = 128
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

    def keep(self) -> Path:
        """Move the file to its place among the uploads; its new path."""
        target: Path = settings.DATA_DIR / "uploads" / str(self.id)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._folder.rename(target)
        return target / self.path.name

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
    """Keep a complete upload as a slide of the user. Raises UnreadableSlide."""
    incoming.close()
    _refuse_lists_of_files(incoming.path)
    described = _describe(incoming.path)
    path = incoming.keep()
    try:
        return _insert(user, name=incoming.name, path=path, is_upload=True, id=incoming.id, **described)
    except BaseException:
        discard(settings.DATA_DIR, path.parent)
        raise


def slide_register(*, user: User, path: str) -> Slide:
    """Register a file that lies under DATA_DIR/slides, where `path` begins. Raises Invalid, UnreadableSlide (an Invalid).

    No `..`, no absolute path, and no symbolic link that leads out: the file stays where it is and is never changed.
    """
    root: Path = settings.DATA_DIR / "slides"
    file = _inside(root, path)
    try:
        described = _describe(file)
    except UnreadableSlide as error:
        raise UnreadableSlide(error.message, field="path") from error
    return _insert(user, name=clean_name(file.name), path=root / path, is_upload=False, **described)


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
        slide.mpp, slide.mpp_source = mpp, "owner"
        slide.save(update_fields=["mpp", "mpp_source"])
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
    for file in folder.glob("upload-*/slide*"):
        with suppress(FileNotFoundError):
            if time.time() - file.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(file.parent, ignore_errors=True)


def _extension(name: str) -> str:
    found = _EXTENSION.search(name)
    return found.group().lower() if found else ""


def _inside(root: Path, path: str) -> Path:
    """The file that `path` names under `root`, links followed. Raises Invalid when it is elsewhere."""
    refused = Invalid("Must be a path under DATA_DIR/slides, without . or .. parts.", field="path")
    parts = PurePosixPath(path).parts
    if not parts or not path.isprintable() or path.startswith("/") or {"..", "."} & set(path.split("/")) or len(path) > 1000:
        raise refused
    try:
        base, file = root.resolve(), (root / path).resolve()
    except (OSError, ValueError, RuntimeError):
        raise refused from None
    if not file.is_relative_to(base):
        raise refused
    return file


def _refuse_lists_of_files(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(_DICOM_OFFSET + len(_DICOM))
    if not head.startswith(_CONTAINERS) and head[_DICOM_OFFSET:] != _DICOM:
        raise UnreadableSlide("The file is in no single-file slide format that is known here.", field="file")


def _describe(path: Path) -> dict[str, Any]:
    info = describe_apart(path)
    return {
        "size_bytes": path.stat().st_size,
        "fingerprint": info.fingerprint,
        "width": info.width,
        "height": info.height,
        "mpp": info.mpp,
        "mpp_source": "" if info.mpp is None else "file",
        "levels": [asdict(level) for level in info.levels],
        "format": info.format[:64],
    }


def _insert(user: User, *, path: Path, **fields: Any) -> Slide:
    with transaction.atomic():
        slide = Slide.objects.create(owner=user, path=str(path.relative_to(settings.DATA_DIR)), **fields)
        _log("slide.added", slide, actor=user.username)
    return slide


def _refuse_in_use(slide: Slide) -> None:
    if Job.objects.filter(slide=slide, state__in=UNFINISHED).exists():
        raise Conflict("An unfinished job uses this slide.")


def _log(kind: str, slide: Slide, *, actor: str) -> None:
    Event.objects.create(type=kind, user_id=slide.owner_id, actor=actor, data={"slide": str(slide.pk), "name": slide.name})

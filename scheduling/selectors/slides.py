"""Reads of slides. What is not the user's, or is deleted, does not exist; staff see all."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet

from scheduling.errors import NotFound, UnreadableSlide
from scheduling.models import Slide, User
from scheduling.selectors.roots import root_paths, shown_place
from scheduling.selectors.times import iso
from scheduling.slides.reading.interface import SlideReader
from scheduling.slides.reading.places import RootAway, located
from scheduling.slides.reading.pyramid import TILE_PX, thumbnail_jpeg, tile_jpeg
from scheduling.slides.reading.reader import cached_reader


def slide_query(*, user: User, search: str | None = None) -> QuerySet[Slide]:
    """Slides that the user may see, newest first; `search` is part of a name or the whole id."""
    slides = Slide.objects.filter(deleted_at__isnull=True).order_by("-created_at", "-id")
    if not user.is_staff:
        slides = slides.filter(owner=user)
    if not search:
        return slides
    key = _uuid(search)
    return slides.filter(pk=key) if key else slides.filter(name__icontains=search)


def slide_get(*, user: User, slide_id: UUID | str) -> Slide:
    """One slide. Raises NotFound when there is none of that id, or none for this user."""
    key = _uuid(str(slide_id))
    slide = slide_query(user=user).filter(pk=key).first() if key else None
    if slide is None:
        raise NotFound
    return slide


def slide_body(slide: Slide) -> dict[str, Any]:
    """The slide as the API shows it; sizes in pixels at full resolution, `mpp` in microns per pixel or null."""
    return {
        "slide_id": str(slide.pk),
        "name": slide.name,
        "width": slide.width,
        "height": slide.height,
        "mpp": slide.mpp,
        "mpp_source": slide.mpp_source or None,
        "mpp_from": slide.mpp_from or None,
        "warnings": slide.warnings,
        "levels": slide.levels,
        "format": slide.format,
        "size_bytes": slide.size_bytes,
        "fingerprint": slide.fingerprint,
        "is_upload": slide.is_upload,
        "root": shown_place(slide)[0],
        "path": shown_place(slide)[1],
        "tile_px": TILE_PX,
        "created_at": iso(slide.created_at),
    }


def slide_tile(slide: Slide, *, level: int, column: int, row: int) -> bytes:
    """JPEG of one tile of a level, 0 = full resolution. Raises NotFound outside the slide, UnreadableSlide."""
    try:
        return tile_jpeg(_reader(slide), level, column, row)
    except LookupError:
        raise NotFound("The slide has no such tile.") from None


def slide_thumbnail(slide: Slide) -> bytes:
    """JPEG of the whole slide, its longer side at most 512 pixels. Raises UnreadableSlide."""
    return _thumbnail(_file(slide), slide.fingerprint)


@lru_cache(maxsize=256)
def _thumbnail(path: Path, content: str) -> bytes:
    """Kept: of a slide without small levels it takes seconds."""
    return thumbnail_jpeg(cached_reader(path, content))


def _reader(slide: Slide) -> SlideReader:
    return cached_reader(_file(slide), slide.fingerprint)


def _file(slide: Slide) -> Path:
    """Raises UnreadableSlide when it is not there, not now, or somewhere else by a link."""
    try:
        return located(settings.DATA_DIR, root_paths(), slide.root, slide.path)
    except RootAway as error:
        raise UnreadableSlide(f"The slide cannot be read at the moment: {error}.") from error


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None

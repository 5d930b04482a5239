"""Reads of slides. What is not the user's, or is deleted, does not exist; staff see all."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet

from scheduling.errors import NotFound
from scheduling.models import Slide, User
from scheduling.selectors.times import iso
from scheduling.slides.interface import SlideReader
from scheduling.slides.pyramid import TILE_PX, thumbnail_jpeg, tile_jpeg
from scheduling.slides.reader import cached_reader


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
        "levels": slide.levels,
        "format": slide.format,
        "size_bytes": slide.size_bytes,
        "fingerprint": slide.fingerprint,
        "is_upload": slide.is_upload,
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
    return thumbnail_jpeg(_reader(slide))


def _reader(slide: Slide) -> SlideReader:
    return cached_reader(settings.DATA_DIR / slide.path, slide.fingerprint)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None

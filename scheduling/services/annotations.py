"""Use cases of annotations: keep GeoJSON drawn on a slide, delete it. Reading it happens outside transactions."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from scheduling.errors import Conflict, NotFound
from scheduling.models import Annotation, Event, Job, Slide
from scheduling.services.slides import clean_name
from scheduling.slides.areas.annotation import MAX_DRAWN_VERTICES, on_slide, read_drawing
from scheduling.states import UNFINISHED
from scheduling.store.trash import discard
from scheduling.store.users import lock_users

CUT_OFF = "Part of it lies outside the slide and was cut off."


def annotation_add(*, slide: Slide, name: str, raw: bytes, data: Any, actor: str) -> Annotation:
    """Keep an annotation of a slide; `data` is what the JSON text `raw` says. Raises Invalid with the reason, NotFound."""
    drawing = read_drawing(data, max_vertices=MAX_DRAWN_VERTICES)
    area, is_cut = on_slide(drawing.area, slide.width, slide.height)
    annotation = Annotation(
        id=uuid4(),
        slide=slide,
        name=clean_name(name),
        size_bytes=len(raw),
        sha256=hashlib.sha256(raw).hexdigest(),
        features=drawing.features,
        classes=dict(drawing.classes),
        area_px=area.area,
        warnings=[*drawing.warnings, *([CUT_OFF] if is_cut else [])],
    )
    path = _keep(annotation.pk, raw)
    try:
        _insert(annotation, slide, actor)
    except BaseException:
        discard(settings.DATA_DIR, path)
        raise
    return annotation


def annotation_delete(*, annotation: Annotation, actor: str) -> None:
    """Delete an annotation and its file. Raises Conflict while an unfinished job uses it.

    Finished jobs keep their results; the row stays, hidden, for as long as one of them names it.
    """
    owner_id = annotation.slide.owner_id
    with transaction.atomic():
        lock_users([owner_id])
        if Job.objects.filter(annotation=annotation, state__in=UNFINISHED).exists():
            raise Conflict("An unfinished job uses this annotation.")
        gone = Annotation.objects.filter(pk=annotation.pk, deleted_at__isnull=True).update(deleted_at=timezone.now())
        Annotation.objects.filter(slide__owner_id=owner_id, deleted_at__isnull=False, jobs__isnull=True).delete()
        if gone:
            _log("annotation.deleted", annotation, actor=actor)
    discard(settings.DATA_DIR, settings.DATA_DIR / annotation.path)


def _keep(key: UUID, raw: bytes) -> Path:
    """Write the file, complete or not at all."""
    folder: Path = settings.DATA_DIR / "annotations"
    folder.mkdir(parents=True, exist_ok=True)
    path, temporary = folder / f"{key}.geojson", folder / f"{key}.part"
    try:
        temporary.write_bytes(raw)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _insert(annotation: Annotation, slide: Slide, actor: str) -> None:
    with transaction.atomic():
        lock_users([slide.owner_id])
        if not Slide.objects.filter(pk=slide.pk, deleted_at__isnull=True).exists():
            raise NotFound
        annotation.save(force_insert=True)
        _log("annotation.added", annotation, actor=actor)


def _log(kind: str, annotation: Annotation, *, actor: str) -> None:
    told = {"annotation": str(annotation.pk), "slide": str(annotation.slide_id), "name": annotation.name}
    Event.objects.create(type=kind, user_id=annotation.slide.owner_id, actor=actor, data=told)

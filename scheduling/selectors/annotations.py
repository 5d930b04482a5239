"""Reads of annotations. Whoever may see a slide may see what was drawn on it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from scheduling.errors import NotFound
from scheduling.models import Annotation, Slide
from scheduling.selectors.times import iso


def annotation_query(slide: Slide) -> QuerySet[Annotation]:
    """Annotations of a slide, newest first."""
    return Annotation.objects.filter(slide=slide, deleted_at__isnull=True).select_related("slide").order_by("-created_at", "-id")


def annotation_get(slide: Slide, annotation_id: str) -> Annotation:
    """One annotation of a slide. Raises NotFound."""
    try:
        key = UUID(annotation_id)
    except ValueError:
        raise NotFound from None
    annotation = annotation_query(slide).filter(pk=key).first()
    if annotation is None:
        raise NotFound
    return annotation


def annotation_body(annotation: Annotation) -> dict[str, Any]:
    """The annotation as the API shows it; `area_mm2` by the slide's microns per pixel, null as long as these are not known."""
    mpp = annotation.slide.mpp
    return {
        "annotation_id": str(annotation.pk),
        "slide_id": str(annotation.slide_id),
        "name": annotation.name,
        "features": annotation.features,
        "classes": annotation.classes,
        "area_px": round(annotation.area_px, 2),
        "area_mm2": None if mpp is None else round(annotation.area_px * (mpp / 1000) ** 2, 6),
        "size_bytes": annotation.size_bytes,
        "sha256": annotation.sha256,
        "warnings": annotation.warnings,
        "created_at": iso(annotation.created_at),
    }

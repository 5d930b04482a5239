"""Where the jobs of a new workflow look: their regions in one form, their annotations, each checked against the job's slide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from scheduling.errors import Invalid
from scheduling.jobtypes import registry
from scheduling.models import Annotation, Job, Slide
from scheduling.slides.areas.annotation import MAX_REGION_VERTICES, MAX_REGIONS_VERTICES, on_slide, read_area, to_geojson, vertex_count


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a job asks for."""

    region: Any = None
    annotation: UUID | None = None


def set_limits(jobs: Sequence[Job], asked: Sequence[Asked], region: Any = None) -> None:
    """Give unsaved jobs their regions and annotations; `region` is that of every job that asks for none. Raises Invalid with the field."""
    wanted = [each.annotation for each in asked if each.annotation]
    annotations = Annotation.objects.in_bulk(wanted) if wanted else {}
    regions = _Regions()
    for i, (job, wish) in enumerate(zip(jobs, asked, strict=True)):
        if wish.region is not None:
            job.region = regions.of(job, wish.region, f"jobs[{i}].region")
        elif region is not None:
            job.region = regions.of(job, region, "region")
        if wish.annotation is not None:
            job.annotation = _annotation(job, annotations.get(wish.annotation), wish.annotation, f"jobs[{i}].annotation")


def refuse_gone_annotations(jobs: Sequence[Job]) -> None:
    """Annotations may have been deleted since the jobs were given them. Raises Invalid with the field."""
    wanted = {job.annotation_id for job in jobs if job.annotation_id is not None}
    if not wanted:
        return
    there = set(Annotation.objects.filter(pk__in=wanted, deleted_at__isnull=True).values_list("pk", flat=True))
    for i, job in enumerate(jobs):
        if job.slide is not None and job.annotation_id is not None and job.annotation_id not in there:
            raise _no_annotation(job.annotation_id, job.slide, f"jobs[{i}].annotation")


def check_limits(request_region: Any, asked: Sequence[tuple[str, Asked]]) -> None:
    """What can be said of regions without a slide, of jobs of these types. Raises Invalid with the field."""
    if request_region is not None:
        _read(request_region, "region")
    for i, (job_type, wish) in enumerate(asked):
        if wish.region is not None:
            _read(wish.region, f"jobs[{i}].region")
        for name, given, field in (
            ("region", wish.region, f"jobs[{i}].region"),
            ("region", request_region if wish.region is None else None, "region"),
            ("annotation", wish.annotation, f"jobs[{i}].annotation"),
        ):
            if given is not None:
                _check_type(job_type, name, field)


class _Regions:
    """Regions of one workflow: each read once for each slide, and all of them together of a size that answers can show."""

    def __init__(self) -> None:
        self._read: dict[tuple[int, UUID], tuple[dict[str, Any], int]] = {}
        self._vertices = 0

    def of(self, job: Job, given: Any, field: str) -> dict[str, Any]:
        """The region of a job in canonical form. Raises Invalid."""
        if job.slide is None:
            raise Invalid(f"Job {job.job_id} is simulated: without a slide there is no region.", field=field)
        _check_type(job.job_type, "region", field)
        key = (id(given), job.slide.pk)
        if key not in self._read:
            self._read[key] = _on(job.slide, given, field)
        geometry, vertices = self._read[key]
        self._vertices += vertices
        if self._vertices > MAX_REGIONS_VERTICES:
            raise Invalid(f"The regions of all jobs together have more than {MAX_REGIONS_VERTICES:,} vertices.", field=field)
        return geometry


def _on(slide: Slide, given: Any, field: str) -> tuple[dict[str, Any], int]:
    """(canonical GeoJSON, vertices) of the part of a region that is on the slide."""
    area = _read(given, field)
    try:
        area, _ = on_slide(area, slide.width, slide.height)
    except Invalid as error:
        raise Invalid(error.message, field=field) from error
    return to_geojson(area), vertex_count(area)


def _read(given: Any, field: str) -> Any:
    try:
        return read_area(given, max_vertices=MAX_REGION_VERTICES)
    except Invalid as error:
        raise Invalid(error.message, field=field) from error


def _check_type(job_type: str, limit: str, field: str) -> None:
    if limit in registry.get(job_type).limits:
        return
    reason = "it finds the tissue itself" if (job_type, limit) == ("TISSUE_MASK", "annotation") else "it would not keep to it"
    raise Invalid(f"{job_type} takes no {limit}: {reason}.", field=field)


def _annotation(job: Job, found: Annotation | None, key: UUID, field: str) -> Annotation:
    """The annotation, if it is one of the job's slide, which the user may see. Raises Invalid."""
    if job.slide is None:
        raise Invalid(f"Job {job.job_id} is simulated: without a slide there is no annotation.", field=field)
    if found is None or found.deleted_at is not None or found.slide_id != job.slide.pk:
        raise _no_annotation(key, job.slide, field)
    _check_type(job.job_type, "annotation", field)
    return found


def _no_annotation(key: UUID, slide: Slide, field: str) -> Invalid:
    return Invalid(f"There is no annotation {key} of slide {slide.name!r}.", field=field)

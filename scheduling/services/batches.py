"""One workflow for each of many slides: each whole or not at all, in the order of the slides, errors listed by slide.

A batch is no transaction: a thousand insertions would hold the database for seconds. With an Idempotency-Key each workflow has a key
of its own that follows from it, so that a repetition makes what a crash has left out, and nothing twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from scheduling.errors import Invalid, KeyReused
from scheduling.models import IdempotencyKey, Slide, User
from scheduling.services.folders import Folder, files_in
from scheduling.services.slides import slide_at
from scheduling.services.workflows import Idempotency, WorkflowRequest, template_settle, workflow_submit
from scheduling.store.leftovers import IDEMPOTENCY_KEPT

MAX_SLIDES = 1000
MAX_BATCH_JOBS = 10_000
_MAX_NAME = 200

#: {"workflows": [{"slide_id", "name", "workflow_id"}], "errors": [{"slide" or "path", "field", "detail"}]}
Answer = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """A batch as the user asks for it; slides in the order of submission, or a folder of them."""

    template: WorkflowRequest
    slides: tuple[UUID, ...] = ()
    folder: Folder | None = None
    #: With {slide} and {n}; "": the template's, else the slide's.
    name: str = ""


def batch_submit(*, user: User, request: BatchRequest, idempotency: Idempotency | None = None) -> Answer:
    """Submit the template for every slide that it fits. Raises Invalid naming the field of what is wrong for all slides, KeyReused."""
    try:
        request = replace(request, template=template_settle(request.template))
    except Invalid as error:
        raise Invalid(error.message, field=f"template.{error.field}" if error.field else "template") from error
    sources = list(_sources(user, request))
    if len(sources) * len(request.template.jobs) > MAX_BATCH_JOBS:
        message = f"{len(sources):,} slides with {len(request.template.jobs):,} jobs each are more than {MAX_BATCH_JOBS:,} jobs."
        raise Invalid(message, field="template.jobs")
    if idempotency is not None:
        _refuse_other_body(user, idempotency)
    answer: Answer = {"workflows": [], "errors": []}
    for number, source in enumerate(sources, start=1):
        try:
            answer["workflows"].append(_one(user, request, source, number, idempotency))
        except Invalid as error:
            answer["errors"].append({**source.label, "field": error.field, "detail": error.message})
    return _answered(user, answer, idempotency)


def batch_replay(*, user: User, idempotency: Idempotency) -> Answer | None:
    """What the batch with this key was answered within 24 hours; None when it was not. Raises KeyReused for another body."""
    used = IdempotencyKey.objects.filter(user=user, key=idempotency.key, created_at__gte=timezone.now() - IDEMPOTENCY_KEPT).first()
    if used is None:
        return None
    if used.body_sha256 != idempotency.body_sha256 or used.answer is None:
        raise KeyReused(field="Idempotency-Key")
    answer: Answer = used.answer
    return answer


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A slide that is there, one that is not, or a file that becomes one."""

    #: How the answer names it.
    label: dict[str, str]
    slide: Slide | None = None
    path: str | None = None
    root: str | None = None


def _sources(user: User, request: BatchRequest) -> Iterator[_Source]:
    if request.folder is not None:
        for path in files_in(user, request.folder, most=MAX_SLIDES):
            yield _Source(label={"path": path}, path=path, root=request.folder.root)
        return
    known = Slide.objects.filter(deleted_at__isnull=True)
    slides = (known if user.is_staff else known.filter(owner=user)).in_bulk(request.slides)
    yield from (_Source(label={"slide": str(key)}, slide=slides.get(key)) for key in request.slides)


def _one(user: User, request: BatchRequest, source: _Source, number: int, idempotency: Idempotency | None) -> dict[str, Any]:
    """The workflow of one slide. Raises Invalid."""
    slide = source.slide or (slide_at(user=user, path=source.path, root=source.root) if source.path is not None else None)
    if slide is None:
        raise Invalid(f"There is no slide {source.label['slide']}.", field="slide")
    name = _named(request, slide, number)
    own = None
    if idempotency is not None:
        own = Idempotency(key=f"{_own_keys(idempotency)}{number}", body_sha256=idempotency.body_sha256)
    workflow = workflow_submit(user=user, request=replace(request.template, slide=slide.pk, name=name), idempotency=own)
    return {"slide_id": str(slide.pk), "name": name, "workflow_id": str(workflow.uuid)}


def _named(request: BatchRequest, slide: Slide, number: int) -> str:
    pattern = request.name or request.template.name or "{slide}"
    parts = pattern.split("{n}")
    return str(number).join(part.replace("{slide}", slide.name) for part in parts)[:_MAX_NAME]


def _own_keys(idempotency: Idempotency) -> str:
    """How the keys of the single workflows begin; a client's key has no blank in it."""
    return f"batch {hashlib.sha256(idempotency.key.encode()).hexdigest()} "


def _refuse_other_body(user: User, idempotency: Idempotency) -> None:
    since = timezone.now() - IDEMPOTENCY_KEPT
    begun = IdempotencyKey.objects.filter(user=user, key__startswith=_own_keys(idempotency), created_at__gte=since)
    if begun.exclude(body_sha256=idempotency.body_sha256).exists():
        raise KeyReused(field="Idempotency-Key")


def _answered(user: User, answer: Answer, idempotency: Idempotency | None) -> Answer:
    """Remember the answer under the client's key; what made nothing uses up no key."""
    if idempotency is None or not answer["workflows"]:
        return answer
    first = UUID(answer["workflows"][0]["workflow_id"])
    try:
        with transaction.atomic():
            IdempotencyKey.objects.filter(user=user, key=idempotency.key, created_at__lt=timezone.now() - IDEMPOTENCY_KEPT).delete()
            IdempotencyKey.objects.create(
                user=user, key=idempotency.key, body_sha256=idempotency.body_sha256, workflow_uuid=first, answer=answer
            )
    except IntegrityError:
        # The same request, sent twice at once, was faster.
        return batch_replay(user=user, idempotency=idempotency) or answer
    return answer

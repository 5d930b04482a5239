"""What a killed process had no time to remove is found and removed later; what a job needs stays."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

import pytest
from django.utils import timezone

from scheduling.models import Annotation, Job
from scheduling.store.leftovers import unneeded_folders
from tests.integration.working import job_of, new_slide, new_user, submit

pytestmark = pytest.mark.django_db

NOW_S = 1_000_000.0


def folder(parent: Path, name: str, age_s: float = 3600.0) -> Path:
    """A folder last changed so long ago."""
    made = parent / name
    made.mkdir(parents=True)
    os.utime(made, (NOW_S - age_s, NOW_S - age_s))
    return made


def test_only_old_folders_that_no_job_needs_are_unneeded(tmp_path: Path) -> None:
    workflow = submit(new_user(), "done", "failed", "waiting")
    for name, state in (("done", "SUCCEEDED"), ("failed", "FAILED"), ("waiting", "PENDING")):
        Job.objects.filter(job_id=name).update(digest=f"digest-{name}", state=state)
    tiles, results = tmp_path / "tiles", tmp_path / "results"
    unneeded = {folder(tiles, "digest-done"), folder(tiles, "digest-of-nobody"), folder(results, str(uuid4()))}
    folder(tiles, "digest-failed")
    folder(tiles, "digest-waiting")
    folder(tiles, "digest-of-nobody-yet", age_s=5)
    folder(results, str(uuid4()), age_s=5)
    folder(results, str(job_of(workflow, "done").uuid))
    folder(results, "not-of-ours")
    assert set(unneeded_folders(tmp_path, NOW_S)) == unneeded


def test_files_of_annotations_that_are_gone_are_unneeded(tmp_path: Path) -> None:
    owner = new_user()
    slide, gone = new_slide(owner, "a"), new_slide(owner, "b", deleted_at=timezone.now())
    fields = {"size_bytes": 1, "features": 1, "area_px": 1.0}
    kept, deleted, orphan = (
        Annotation.objects.create(slide=of, deleted_at=at, **fields) for of, at in ((slide, None), (slide, timezone.now()), (gone, None))
    )
    parent = tmp_path / "annotations"
    folder(parent, f"{kept.pk}.geojson")
    folder(parent, f"{uuid4()}.geojson", age_s=5)
    folder(parent, "not-of-ours")
    unneeded = {folder(parent, name) for name in (f"{deleted.pk}.geojson", f"{orphan.pk}.geojson", f"{uuid4()}.part")}
    assert set(unneeded_folders(tmp_path, NOW_S)) == unneeded


def test_nothing_is_unneeded_where_no_folders_are(tmp_path: Path) -> None:
    assert list(unneeded_folders(tmp_path, NOW_S)) == []

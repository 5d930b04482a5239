"""The slide services below HTTP: what is written where, and in which order."""

from __future__ import annotations

import dataclasses
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from django.db import connection

from scheduling.errors import Conflict, Invalid, TooLarge, UnreadableSlide
from scheduling.models import Event, Job, Slide, User
from scheduling.services.slides import ABANDONED_S, clean_name, slide_delete, slide_register, slide_update, slide_upload
from scheduling.services.workflows import JobRequest, WorkflowRequest, workflow_submit
from scheduling.states import JobState

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner(db: None) -> User:
    """The owner of the slides."""
    return User.objects.create_user("owner")


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small tiled TIFF."""
    path = tmp_path_factory.mktemp("slide") / "a.tif"
    pixels = np.full((300, 300, 3), 200, dtype=np.uint8)
    tifffile.imwrite(path, pixels, tile=(128, 128), photometric="rgb", resolution=(20_000, 20_000), resolutionunit="CENTIMETER")
    return path.read_bytes()


def submit(owner: User, slide: Slide) -> Job:
    request = WorkflowRequest(jobs=(JobRequest(job_id="j", branch="b", job_type="TISSUE_MASK", slide=slide.pk),))
    return workflow_submit(user=owner, request=request).jobs.get()


def files(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def test_an_upload_in_chunks_is_written_once_and_kept_whole(owner: User, content: bytes, settings: Any) -> None:
    slide = slide_upload(user=owner, name="Liver.SVS", chunks=(content[i : i + 1000] for i in range(0, len(content), 1000)))
    assert (settings.DATA_DIR / slide.path).read_bytes() == content
    assert slide.path == f"uploads/{slide.pk}/slide.svs"
    assert slide.size_bytes == len(content)
    assert (slide.width, slide.height, slide.mpp) == (300, 300, 0.5)
    assert files(settings.DATA_DIR / "tmp") == []


def test_an_upload_that_breaks_off_leaves_nothing(owner: User, content: bytes, settings: Any) -> None:
    def broken() -> Iterator[bytes]:
        yield content[:500]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        slide_upload(user=owner, name="a.tif", chunks=broken())
    assert list((settings.DATA_DIR / "tmp").glob("*")) == []
    assert not Slide.objects.exists()


def test_what_a_dead_process_left_is_removed_by_a_later_upload(owner: User, content: bytes, settings: Any) -> None:
    folders = {age: settings.DATA_DIR / "tmp" / f"upload-{age}" for age in ("old", "new")}
    for age, folder in folders.items():
        folder.mkdir()
        (folder / "slide.svs").write_bytes(b"II")
        then = time.time() - (ABANDONED_S + 60 if age == "old" else 60)
        os.utime(folder / "slide.svs", (then, then))
    slide_upload(user=owner, name="a.tif", chunks=[content])
    assert {age for age, folder in folders.items() if folder.exists()} == {"new"}
    shutil.rmtree(folders["new"])


def test_an_upload_over_the_limit_stops_reading_there(owner: User, settings: Any) -> None:
    settings.ENV = dataclasses.replace(settings.ENV, max_upload_bytes=2500)
    given = []

    def endless() -> Iterator[bytes]:
        while True:
            given.append(1)
            yield bytes(1000)

    with pytest.raises(TooLarge):
        slide_upload(user=owner, name="a.tif", chunks=endless())
    assert len(given) == 3
    assert list((settings.DATA_DIR / "tmp").glob("*")) == []


def test_an_upload_whose_row_is_refused_leaves_no_file(owner: User, content: bytes, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(Slide.objects, "create", refuse)
    before = files(settings.DATA_DIR / "uploads")
    with pytest.raises(RuntimeError):
        slide_upload(user=owner, name="a.tif", chunks=[content])
    assert files(settings.DATA_DIR / "uploads") == before


@pytest.mark.parametrize("head", [b"[Virtual Microscope Specimen]\n", b"\x89PNG\r\n\x1a\n" + bytes(200), b"", b"II"])
def test_an_upload_that_is_no_single_file_slide_is_refused(owner: User, head: bytes) -> None:
    with pytest.raises(UnreadableSlide) as refusal:
        slide_upload(user=owner, name="a.svs", chunks=[head])
    assert refusal.value.field == "file"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a/b\\c.svs", "c.svs"),
        ("../..", ".."),
        ("", "slide"),
        ("x\0y\n.tif", "xy.tif"),
        ("n" * 300, "n" * 255),
        ("/", "slide"),
        ("Ä 1.ndpi", "Ä 1.ndpi"),
    ],
)
def test_names_are_shown_cleaned(given: str, shown: str) -> None:
    assert clean_name(given) == shown


def test_uploads_and_other_folders_cannot_be_registered(owner: User, content: bytes, settings: Any) -> None:
    uploaded = slide_upload(user=owner, name="a.tif", chunks=[content])
    for path in (f"../{uploaded.path}", str(settings.DATA_DIR / uploaded.path), f"x/../../{uploaded.path}"):
        with pytest.raises(Invalid) as refusal:
            slide_register(user=owner, path=path)
        assert refusal.value.field == "path"


def test_a_slide_in_use_is_neither_deleted_nor_restated(owner: User, content: bytes) -> None:
    slide = slide_upload(user=owner, name="a.tif", chunks=[content])
    job = submit(owner, slide)
    for state in (JobState.PENDING, JobState.RUNNING):
        Job.objects.filter(pk=job.pk).update(state=state)
        with pytest.raises(Conflict):
            slide_delete(slide=slide, actor="owner")
        with pytest.raises(Conflict):
            slide_update(slide=slide, mpp=0.25)
    Job.objects.filter(pk=job.pk).update(state=JobState.SUCCEEDED)
    slide_delete(slide=slide, actor="owner")
    job.refresh_from_db()
    assert job.slide is not None
    assert job.slide.deleted_at is not None


def test_a_deleted_slide_is_forgotten_once_no_job_names_it(owner: User, content: bytes) -> None:
    first, second = (slide_upload(user=owner, name=f"{i}.tif", chunks=[content]) for i in range(2))
    job = submit(owner, first)
    Job.objects.filter(pk=job.pk).update(state=JobState.SUCCEEDED)
    slide_delete(slide=first, actor="owner")
    assert Slide.objects.filter(pk=first.pk).exists()
    job.workflow.delete()
    slide_delete(slide=second, actor="owner")
    assert not Slide.objects.exists()


def test_deleting_twice_deletes_once(owner: User, content: bytes) -> None:
    slide = slide_upload(user=owner, name="a.tif", chunks=[content])
    slide_delete(slide=slide, actor="owner")
    slide_delete(slide=slide, actor="owner")
    assert Event.objects.filter(type="slide.deleted").count() == 1


@pytest.mark.parametrize("mpp", [0.0, 0.0499, 5.01, float("nan"), float("inf")])
def test_implausible_resolutions_are_refused(owner: User, content: bytes, mpp: float) -> None:
    slide = slide_upload(user=owner, name="a.tif", chunks=[content])
    with pytest.raises(Invalid):
        slide_update(slide=slide, mpp=mpp)


def test_what_happens_to_a_slide_is_logged(owner: User, content: bytes) -> None:
    slide = slide_upload(user=owner, name="a.tif", chunks=[content])
    slide_update(slide=slide, mpp=0.25)
    slide_delete(slide=slide, actor="boss")
    assert list(Event.objects.values_list("type", "actor")) == [
        ("slide.added", "owner"),
        ("slide.updated", "owner"),
        ("slide.deleted", "boss"),
    ]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("round_", range(5))
def test_a_deletion_and_a_submission_at_once_never_both_succeed(transactional_db: None, content: bytes, round_: int) -> None:
    owner = User.objects.create_user("racer")
    slide = slide_upload(user=owner, name="a.tif", chunks=[content])
    start, outcomes = threading.Barrier(2), dict[str, bool]()

    def attempt(name: str, action: Any) -> None:
        start.wait()
        try:
            action()
            outcomes[name] = True
        except (Conflict, Invalid):
            outcomes[name] = False
        finally:
            connection.close()

    actions = {"submit": lambda: submit(owner, slide), "delete": lambda: slide_delete(slide=slide, actor="racer")}
    threads = [threading.Thread(target=attempt, args=item) for item in actions.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes.values()) == [False, True], outcomes

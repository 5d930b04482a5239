"""Slides over HTTP: upload, register, read, pictures, delete; and what an outsider sees."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from rest_framework.test import APIClient

from scheduling.models import Job, Slide, User
from scheduling.states import JobState
from tests.integration.api.conftest import JOBS, finish

TISSUE = [JOBS[1]]


def upload(client: Any, content: bytes, name: str = "one.svs", **more: Any) -> Any:
    return client.post("/slide", {"file": SimpleUploadedFile(name, content), **more}, format="multipart")


def leftovers(data_dir: Path) -> list[Path]:
    return [path for folder in ("uploads", "tmp") for path in (data_dir / folder).glob("*")]


@pytest.fixture(autouse=True)
def _no_leftovers(settings: Any) -> None:
    import shutil

    for path in leftovers(settings.DATA_DIR):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_an_upload_becomes_a_slide_kept_under_its_id(alice: APIClient, slide_bytes: bytes, settings: Any) -> None:
    answer = upload(alice, slide_bytes, "C:\\scans\\Liver 7.SVS")
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert (body["name"], body["width"], body["height"], body["mpp"], body["mpp_source"]) == ("Liver 7.SVS", 700, 500, 0.5, "file")
    assert [level["width"] for level in body["levels"]] == [700, 350]
    assert answer["Location"].endswith(f"/slide/{body['slide_id']}")
    assert [path.relative_to(settings.DATA_DIR) for path in leftovers(settings.DATA_DIR)] == [Path("uploads", body["slide_id"])]
    kept = settings.DATA_DIR / "uploads" / body["slide_id"] / "slide.svs"
    assert kept.read_bytes() == slide_bytes
    assert alice.get("/slide").json()["results"] == [body]


@pytest.mark.parametrize("name", ["../../evil.svs", "evil.svs", "/etc/evil.svs", "evil.vms", "x" * 300 + ".svs"])
def test_what_is_no_slide_is_refused_and_leaves_nothing(alice: APIClient, name: str, settings: Any) -> None:
    answer = upload(alice, b"not a slide", name)
    assert answer.status_code == 400, answer.content
    assert list(answer.json()) == ["file"]
    assert leftovers(settings.DATA_DIR) == []
    assert not list(settings.DATA_DIR.rglob("*evil*"))
    assert not Slide.objects.exists()


def test_a_broken_tiff_is_refused_and_leaves_nothing(alice: APIClient, slide_bytes: bytes, settings: Any) -> None:
    answer = upload(alice, slide_bytes[: len(slide_bytes) // 3])
    assert answer.status_code == 400, answer.content
    assert leftovers(settings.DATA_DIR) == []


def test_a_list_of_other_files_is_no_upload(alice: APIClient, settings: Any) -> None:
    """Formats that name further files would let an upload name those of others."""
    answer = upload(alice, b"[Virtual Microscope Specimen]\nImageFile=../../slides/shelf/one.tif\n", "trap.vms")
    assert answer.status_code == 400
    assert leftovers(settings.DATA_DIR) == []


def test_an_upload_beyond_the_limit_is_refused_and_leaves_nothing(
    alice: APIClient, slide_bytes: bytes, settings: Any, set_env: Callable[..., None]
) -> None:
    set_env(max_upload_bytes=1000)
    assert upload(alice, slide_bytes).status_code == 413
    assert upload(alice, b"II*\0" + bytes(2000)).status_code == 413
    assert leftovers(settings.DATA_DIR) == []


def test_an_upload_without_a_file_or_with_more_is_refused_by_name(alice: APIClient, slide_bytes: bytes, settings: Any) -> None:
    assert list(alice.post("/slide", {}, format="multipart").json()) == ["file"]
    assert list(alice.post("/slide", {"file": "text"}, format="multipart").json()) == ["file"]
    assert list(upload(alice, slide_bytes, nope="1").json()) == ["nope"]
    assert list(upload(alice, slide_bytes, second=SimpleUploadedFile("b.svs", b"II*\0")).json()) == ["second"]
    assert leftovers(settings.DATA_DIR) == []
    assert not Slide.objects.exists()


def test_a_cut_off_form_is_refused(alice: APIClient, settings: Any) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.svs"\r\n\r\nII*'
    nameless = body.replace(b"a.svs", b"..") + b"*\0\r\n--x--\r\n"
    assert alice.generic("POST", "/slide", nameless, content_type="multipart/form-data; boundary=x").status_code == 400
    for kind in ("multipart/form-data; boundary=x", "multipart/form-data", "multipart/form-data; boundary=\xe9"):
        answer = alice.generic("POST", "/slide", body, content_type=kind)
        assert answer.status_code == 400, kind
    assert leftovers(settings.DATA_DIR) == []


def test_an_upload_by_a_session_needs_its_csrf_token_and_leaves_nothing(db: None, slide_bytes: bytes, settings: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_user("carla", password="correct horse"))
    assert client.post("/slide", {"file": SimpleUploadedFile("a.svs", slide_bytes)}).status_code == 403
    assert leftovers(settings.DATA_DIR) == []
    client.cookies["csrftoken"] = "a" * 32
    form = {"csrfmiddlewaretoken": "a" * 32, "file": SimpleUploadedFile("a.svs", slide_bytes)}
    assert client.post("/slide", form).status_code == 201


@pytest.mark.parametrize(
    "path", ["../db.sqlite3", "/etc/passwd", "a/../../x", "shelf/../shelf/one.tif", "", ".", "shelf", "nope.svs", "a\0b", "x" * 999]
)
def test_a_path_that_leads_out_or_to_no_slide_is_refused_by_name(alice: APIClient, slide: Slide, path: str) -> None:
    answer = alice.post("/slide", {"path": path})
    assert answer.status_code == 400, answer.content
    assert list(answer.json()) == ["path"]


def test_a_link_that_leads_out_is_refused(alice: APIClient, slide: Slide, slide_bytes: bytes, settings: Any, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.tif").write_bytes(slide_bytes)
    link = settings.DATA_DIR / "slides" / "link.tif"
    link.unlink(missing_ok=True)
    link.symlink_to(tmp_path / "elsewhere.tif")
    assert alice.post("/slide", {"path": "link.tif"}).status_code == 400
    link.unlink()
    link.symlink_to(settings.DATA_DIR / "slides" / "shelf" / "one.tif")
    assert alice.post("/slide", {"path": "link.tif"}).status_code == 201
    link.unlink()


@pytest.mark.parametrize("body", [{}, {"path": 7}, {"path": None}, {"path": "shelf/one.tif", "nope": 1}, [], "x"])
def test_a_malformed_registration_is_refused(alice: APIClient, slide: Slide, body: Any) -> None:
    assert alice.post("/slide", body).status_code == 400
    assert Slide.objects.count() == 1


def test_microns_per_pixel_are_stated_by_the_owner(alice: APIClient, slide_without_mpp: bytes) -> None:
    slide_id = upload(alice, slide_without_mpp).json()["slide_id"]
    refused = alice.post("/workflow", {"slide": slide_id, "jobs": TISSUE})
    assert refused.status_code == 400
    body = alice.patch(f"/slide/{slide_id}", {"mpp": 0.25}).json()
    assert (body["mpp"], body["mpp_source"]) == (0.25, "owner")
    assert alice.post("/workflow", {"slide": slide_id, "jobs": TISSUE}).status_code == 201
    assert alice.patch(f"/slide/{slide_id}", {"mpp": 0.25}).status_code == 200
    assert alice.patch(f"/slide/{slide_id}", {"mpp": 0.5}).status_code == 409


@pytest.mark.parametrize("mpp", [0, 0.01, 5.1, -1, "0.5", None, True, [], 1e300])
def test_implausible_microns_per_pixel_are_refused_by_name(alice: APIClient, slide: Slide, mpp: Any) -> None:
    answer = alice.patch(f"/slide/{slide.pk}", {"mpp": mpp})
    assert answer.status_code == 400
    assert list(answer.json()) == ["mpp"]


def test_pictures_are_jpeg_that_browsers_may_keep(alice: APIClient, slide: Slide) -> None:
    for path in ("thumbnail", "tile/0/0_0", "tile/0/1_0", "tile/1/0_0"):
        answer = alice.get(f"/slide/{slide.pk}/{path}")
        assert answer.status_code == 200, path
        assert answer.content[:2] == b"\xff\xd8"
        assert answer["Content-Type"] == "image/jpeg"
        assert answer["Cache-Control"] == "private, max-age=31536000, immutable"
        again = alice.get(f"/slide/{slide.pk}/{path}", HTTP_IF_NONE_MATCH=answer["ETag"])
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "tile", ["0/2_0", "0/0_1", "2/0_0", "0/999999999_0", "0/-1_0", "0/1", "9999999999999999999/0_0", "0/0_0.jpg", "x/0_0"]
)
def test_tiles_outside_the_slide_are_missing(alice: APIClient, slide: Slide, tile: str) -> None:
    assert alice.get(f"/slide/{slide.pk}/tile/{tile}").status_code == 404


def test_pictures_of_a_file_that_has_gone_are_missing(alice: APIClient, slide_bytes: bytes, settings: Any) -> None:
    slide_id = upload(alice, slide_bytes + os.urandom(8)).json()["slide_id"]
    (settings.DATA_DIR / "uploads" / slide_id / "slide.svs").unlink()
    assert alice.get(f"/slide/{slide_id}/thumbnail").status_code == 404


def test_another_users_slide_does_not_exist(bob: APIClient, staff: APIClient, slide: Slide) -> None:
    unknown = "00000000-0000-0000-0000-000000000000"
    for method, path in [("get", ""), ("delete", ""), ("patch", ""), ("get", "/thumbnail"), ("get", "/tile/0/0_0")]:
        theirs, missing = (
            getattr(bob, method)(f"/slide/{key}{path}", {"mpp": 1} if method == "patch" else None) for key in (slide.pk, unknown)
        )
        assert theirs.status_code == missing.status_code == 404, (method, path)
        assert theirs.json() == missing.json()
    assert bob.get("/slide").json()["results"] == []
    assert staff.get(f"/slide/{slide.pk}").status_code == 200


def test_delete_is_refused_in_use_and_keeps_a_registered_file(alice: APIClient, slide: Slide, settings: Any) -> None:
    workflow_id = alice.post("/workflow", {"slide": str(slide.pk), "jobs": TISSUE}).json()["workflow_id"]
    assert alice.delete(f"/slide/{slide.pk}").status_code == 409
    finish(workflow_id, JobState.FAILED)
    assert alice.delete(f"/slide/{slide.pk}").status_code == 204
    assert (settings.DATA_DIR / slide.path).exists()
    assert alice.get(f"/slide/{slide.pk}").status_code == 404
    assert alice.get("/slide").json()["results"] == []
    assert alice.post("/workflow", {"slide": str(slide.pk), "jobs": TISSUE}).status_code == 400
    # The job still knows that it was a real one.
    assert alice.get(f"/workflow/{workflow_id}").json()["jobs"][0]["slide"] == str(slide.pk)
    assert Job.objects.get().slide_id == slide.pk


def test_delete_removes_an_upload(alice: APIClient, slide_bytes: bytes, settings: Any) -> None:
    slide_id = upload(alice, slide_bytes).json()["slide_id"]
    assert alice.delete(f"/slide/{slide_id}").status_code == 204
    assert not (settings.DATA_DIR / "uploads" / slide_id).exists()
    assert not Slide.objects.exists()
    assert alice.delete(f"/slide/{slide_id}").status_code == 404


def test_slides_are_listed_newest_first_page_by_page(alice: APIClient, slide: Slide) -> None:
    made = [slide.pk]
    for i in range(51):
        slide.pk, slide.name = None, f"copy {i}"
        slide.id = Slide._meta.pk.get_default()
        slide._state.adding = True
        slide.save()
        made.append(slide.pk)
    first = alice.get("/slide").json()
    second = alice.get(first["next"]).json()
    assert [row["slide_id"] for row in first["results"] + second["results"]] == [str(key) for key in reversed(made)]
    assert len(first["results"]) == 50
    assert [row["name"] for row in alice.get("/slide?search=COPY 50").json()["results"]] == ["copy 50"]
    assert alice.get("/slide?cursor=cD1hYmM%3D").status_code == 400

"""Roots: who may list and register what from them, that nothing is written there, and what a share that is away answers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from rest_framework.test import APIClient

from scheduling.env import SlideRoot
from scheduling.jobtypes.base import WorkerSettings
from scheduling.models import Job, Slide, User
from scheduling.protocol.messages import Bundle, Kind
from scheduling.selectors import roots as selectors
from scheduling.store.specs import spec_of
from scheduling.worker.task import run
from tests.integration.api.conftest import JOBS
from tests.integration.api.test_conformance import check
from tests.unit.slides.mirax import write_mirax
from tests.unit.slides.test_filesets import dicom

TISSUE = [JOBS[1]]


@pytest.fixture
def shares(tmp_path: Path, slide_bytes: bytes, set_env: Callable[..., None]) -> Path:
    """`archive` for the pathologists, `teaching` for all; with links and things that are no slides."""
    for folder in ("archive/2024/liver", "archive/.hidden", "teaching", "outside"):
        (tmp_path / folder).mkdir(parents=True)
    for place in ("archive/2024/liver/1.svs", "archive/2024/liver/2.tif", "teaching/t.tiff", "outside/o.tif"):
        (tmp_path / place).write_bytes(slide_bytes)
    (tmp_path / "archive/2024/liver/notes.txt").write_text("no slide")
    (tmp_path / "archive/latest.svs").symlink_to("2024/liver/1.svs")
    (tmp_path / "archive/out.tif").symlink_to(tmp_path / "outside/o.tif")
    write_mirax(tmp_path / "archive/case.mrxs", np.full((300, 300, 3), 220, np.uint8))
    roots = (
        SlideRoot(name="archive", path=tmp_path / "archive", groups=("pathology", "research")),
        SlideRoot(name="teaching", path=tmp_path / "teaching"),
    )
    set_env(slide_roots=roots)
    return tmp_path


@pytest.fixture
def pathologist(alice: APIClient) -> APIClient:
    """Alice, who belongs to the group."""
    alice.get("/slide")
    User.objects.get(username="alice").groups.add(Group.objects.create(name="pathology"))
    return alice


def tree(folder: Path) -> list[tuple[str, int, int]]:
    return sorted((str(path), path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob("*"))


def test_roots_are_those_that_the_users_groups_open(pathologist: APIClient, bob: APIClient, staff: APIClient, shares: Path) -> None:
    names = {client: [root["name"] for root in client.get("/slide-root").json()] for client in (pathologist, bob, staff)}
    assert names[pathologist] == names[staff] == ["slides", "archive", "teaching"]
    assert names[bob] == ["slides", "teaching"]
    assert APIClient().get("/slide-root").status_code == 401
    check(bob.get("/slide-root"), "/slide-root")


def test_a_root_of_another_group_answers_as_one_that_does_not_exist(bob: APIClient, shares: Path) -> None:
    for query in ("", "?folder=2024", "?folder=..", "?limit=0"):
        theirs, missing = (bob.get(f"/slide-root/{name}{query}") for name in ("archive", "nothing"))
        assert theirs.status_code == missing.status_code != 200
        assert theirs.json() == missing.json()
    for path in ("2024/liver/1.svs", "nope.svs", "../x", "latest.svs"):
        theirs, missing = (bob.post("/slide", {"root": name, "path": path}) for name in ("archive", "nothing"))
        assert theirs.status_code == missing.status_code == 400
        assert theirs.json() == {"root": ["There is no root 'archive'."]}
        assert missing.json() == {"root": ["There is no root 'nothing'."]}
    assert not Slide.objects.exists()


def test_a_slide_is_registered_from_a_root_and_nothing_is_written_there(pathologist: APIClient, shares: Path) -> None:
    before = tree(shares)
    answer = pathologist.post("/slide", {"root": "archive", "path": "2024/liver/1.svs"})
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert (body["root"], body["path"], body["is_upload"], body["name"]) == ("archive", "2024/liver/1.svs", False, "1.svs")
    assert (body["mpp"], body["mpp_source"], body["mpp_from"], body["warnings"]) == (0.5, "file", "tiff.XResolution", [])
    assert pathologist.get(f"/slide/{body['slide_id']}/thumbnail").status_code == 200
    assert pathologist.get(f"/slide/{body['slide_id']}/tile/0/1_0").status_code == 200
    assert pathologist.post("/workflow", {"slide": body["slide_id"], "jobs": TISSUE}).status_code == 201
    Job.objects.all().delete()
    assert pathologist.delete(f"/slide/{body['slide_id']}").status_code == 204
    assert tree(shares) == before


def test_a_set_of_files_is_registered_by_the_one_to_open(pathologist: APIClient, shares: Path) -> None:
    answer = pathologist.post("/slide", {"root": "archive", "path": "case.mrxs"})
    assert answer.status_code == 201, answer.content
    assert (answer.json()["format"], answer.json()["mpp"], answer.json()["mpp_from"]) == ("mirax", 0.25, "openslide.mpp-x")
    shutil.rmtree(shares / "archive/case")
    assert pathologist.get(f"/slide/{answer.json()['slide_id']}/tile/0/0_0").status_code == 404
    refused = pathologist.post("/slide", {"root": "archive", "path": "case.mrxs"})
    assert refused.status_code == 400
    assert "Slidedat.ini" in refused.json()["path"][0]


@pytest.mark.parametrize("path", ["out.tif", "../teaching/t.tiff", "/etc/passwd", "2024", "2024/liver/notes.txt", "", "nope.svs", "x/../a"])
def test_a_path_that_leads_out_or_to_no_slide_is_refused_by_name(pathologist: APIClient, shares: Path, path: str) -> None:
    answer = pathologist.post("/slide", {"root": "archive", "path": path})
    assert answer.status_code == 400, answer.content
    assert list(answer.json()) == ["path"]
    assert str(shares) not in answer.content.decode()


def test_the_own_folder_is_a_root_as_well(alice: APIClient, slide: Slide) -> None:
    answer = alice.post("/slide", {"root": "slides", "path": "shelf/one.tif"})
    assert answer.status_code == 201
    assert (answer.json()["root"], answer.json()["path"]) == ("slides", "shelf/one.tif")
    listed = alice.get("/slide-root/slides?folder=shelf").json()["entries"]
    assert [(entry["path"], entry["slide_id"]) for entry in listed] == [("shelf/one.tif", answer.json()["slide_id"])]


def test_a_folder_is_listed_by_name_with_slides_and_folders_alone(pathologist: APIClient, shares: Path) -> None:
    slide_id = pathologist.post("/slide", {"root": "archive", "path": "2024/liver/2.tif"}).json()["slide_id"]
    top = pathologist.get("/slide-root/archive")
    check(top, "/slide-root/{root}")
    assert [(entry["name"], entry["is_folder"]) for entry in top.json()["entries"]] == [
        ("2024", True),
        ("case", True),
        ("case.mrxs", False),
        ("latest.svs", False),
        ("out.tif", False),
    ]
    size = (shares / "archive/2024/liver/1.svs").stat().st_size
    assert pathologist.get("/slide-root/archive?folder=2024/liver").json() == {
        "root": "archive",
        "folder": "2024/liver",
        "entries": [
            {"name": "1.svs", "path": "2024/liver/1.svs", "is_folder": False, "size_bytes": size, "slide_id": None},
            {"name": "2.tif", "path": "2024/liver/2.tif", "is_folder": False, "size_bytes": size, "slide_id": slide_id},
        ],
        "next": None,
    }
    first = pathologist.get("/slide-root/archive?limit=2").json()
    second = pathologist.get(f"/slide-root/archive?limit=10&after={first['next']}").json()
    assert [entry["name"] for entry in first["entries"] + second["entries"]] == [entry["name"] for entry in top.json()["entries"]]
    assert second["next"] is None


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ("folder=..", 400, "folder"),
        ("folder=2024/../..", 400, "folder"),
        ("folder=/etc", 400, "folder"),
        ("folder=nowhere", 404, "detail"),
        ("folder=latest.svs", 404, "detail"),
        ("folder=2024/", 400, "folder"),
        ("folder=%00", 400, "folder"),
        ("limit=0", 400, "limit"),
        ("limit=x", 400, "limit"),
    ],
)
def test_a_bad_folder_is_refused_by_name(pathologist: APIClient, shares: Path, query: str, status: int, field: str) -> None:
    answer = pathologist.get(f"/slide-root/archive?{query}")
    assert (answer.status_code, list(answer.json())) == (status, [field])


def test_a_folder_with_too_much_in_it_is_refused(pathologist: APIClient, shares: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selectors, "MOST_ENTRIES", 2)
    assert "more than 2" in pathologist.get("/slide-root/archive").json()["folder"][0]


def test_a_share_that_is_away_says_so(pathologist: APIClient, shares: Path) -> None:
    body = pathologist.post("/slide", {"root": "archive", "path": "2024/liver/1.svs"}).json()
    shutil.move(shares / "archive", shares / "unplugged")
    (shares / "archive").mkdir()  # the mount point
    away = pathologist.get(f"/slide/{body['slide_id']}/tile/0/0_0")
    assert (away.status_code, "root archive is not there" in away.json()["detail"]) == (404, True)
    assert pathologist.post("/slide", {"root": "archive", "path": "2024/liver/1.svs"}).json() == {
        "root": ["The root archive is not there at the moment."]
    }
    shutil.rmtree(shares / "archive")
    assert list(pathologist.get("/slide-root/archive").json()) == ["root"]


def test_a_slide_whose_link_was_turned_to_somebody_elses_is_not_shown(pathologist: APIClient, shares: Path) -> None:
    body = pathologist.post("/slide", {"root": "archive", "path": "2024/liver/1.svs"}).json()
    (shares / "archive/2024/liver/1.svs").unlink()
    (shares / "archive/2024/liver/1.svs").symlink_to(shares / "outside/o.tif")
    assert pathologist.get(f"/slide/{body['slide_id']}/tile/0/0_0").status_code == 404


def test_a_worker_finds_the_slide_under_its_own_root_and_waits_without_it(pathologist: APIClient, shares: Path, settings: Any) -> None:
    body = pathologist.post("/slide", {"root": "archive", "path": "2024/liver/1.svs"}).json()
    pathologist.post("/workflow", {"slide": body["slide_id"], "jobs": TISSUE})
    spec = spec_of(Job.objects.get(), [])
    spec = type(spec).from_json(spec.to_json())
    for folder in (f"tiles/{spec.digest}", f"results/{spec.id}"):
        (settings.DATA_DIR / folder).mkdir(parents=True)
    order = Bundle(id="b", kind=Kind.PLAN, term=1, epoch=1, spec=spec, time_box_s=60.0)
    other_host = shares / "mnt" / "archive"
    shutil.copytree(shares / "archive", other_host, symlinks=True)
    planned = run(order, WorkerSettings(data_dir=settings.DATA_DIR, slide_roots={"archive": other_host}))
    assert planned.plan is not None, planned.failure
    # As a disk that is away: the job waits with this reason, and no tile is to blame.
    away = run(order, WorkerSettings(data_dir=settings.DATA_DIR))
    assert away.failure is not None
    assert away.failure.refusal == "the slide root archive is not known here (SLIDE_ROOTS)"
    shutil.rmtree(other_host)
    unmounted = run(order, WorkerSettings(data_dir=settings.DATA_DIR, slide_roots={"archive": other_host}))
    assert unmounted.failure is not None
    assert unmounted.failure.refusal == "the slide root archive is not there"


def test_a_folder_of_dicom_files_is_taken_for_its_series(pathologist: APIClient, shares: Path) -> None:
    """These say which series they belong to and hold no image: as far as that they are understood."""
    for name, series in (("a/1.dcm", "1.2"), ("a/2.dcm", "1.2"), ("b/1.dcm", "1.2"), ("b/2.dcm", "1.3")):
        dicom(shares / "archive/dicom" / name, series)
    one, two = (pathologist.post("/slide", {"root": "archive", "path": f"dicom/{name}"}).json()["path"][0] for name in "ab")
    assert "2 DICOM series" in two
    assert "DICOM series" not in one
    batch = {"template": {"jobs": TISSUE}, "root": "archive", "folder": "dicom", "recursive": True}
    errors = pathologist.post("/workflow/batch", batch).json()["errors"]
    assert [error["path"] for error in errors] == ["dicom/a/1.dcm", "dicom/b/1.dcm", "dicom/b/2.dcm"]


def test_a_batch_takes_a_folder_of_a_root(pathologist: APIClient, bob: APIClient, shares: Path) -> None:
    asked = {"template": {"jobs": TISSUE}, "root": "archive", "folder": "2024/liver"}
    answer = pathologist.post("/workflow/batch", asked)
    assert answer.status_code == 201, answer.content
    assert [row["name"] for row in answer.json()["workflows"]] == ["1.svs", "2.tif"]
    assert pathologist.post("/workflow/batch", asked).status_code == 201
    assert Slide.objects.count() == 2
    refused = bob.post("/workflow/batch", asked)
    assert (refused.status_code, list(refused.json())) == (400, ["root"])


def test_a_set_of_files_is_uploaded_as_a_zip_archive_and_goes_as_a_whole(alice: APIClient, tmp_path: Path, settings: Any) -> None:
    write_mirax(tmp_path / "set/case 7.mrxs", np.full((300, 300, 3), 220, np.uint8))
    archive = Path(shutil.make_archive(str(tmp_path / "case"), "zip", tmp_path, "set"))
    answer = alice.post("/slide", {"file": SimpleUploadedFile("case.zip", archive.read_bytes())}, format="multipart")
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert (body["name"], body["format"], body["is_upload"], body["root"], body["path"]) == ("case 7.mrxs", "mirax", True, None, None)
    kept = settings.DATA_DIR / "uploads" / body["slide_id"]
    assert sorted(str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()) == [
        "set/set/case 7.mrxs",
        "set/set/case 7/Data0000.dat",
        "set/set/case 7/Index.dat",
        "set/set/case 7/Slidedat.ini",
    ]
    assert body["size_bytes"] == sum(path.stat().st_size for path in kept.rglob("*") if path.is_file())
    assert alice.get(f"/slide/{body['slide_id']}/tile/0/0_0").status_code == 200
    assert alice.delete(f"/slide/{body['slide_id']}").status_code == 204
    assert not kept.exists()


def test_an_archive_without_a_slide_leaves_nothing(alice: APIClient, tmp_path: Path, settings: Any) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/notes.txt").write_text("no slide")
    archive = Path(shutil.make_archive(str(tmp_path / "case"), "zip", tmp_path, "set"))
    before = sorted((settings.DATA_DIR / "uploads").glob("*"))
    answer = alice.post("/slide", {"file": SimpleUploadedFile("case.zip", archive.read_bytes())}, format="multipart")
    assert (answer.status_code, answer.json()) == (400, {"file": ["It holds no slide in a format that is known here."]})
    assert sorted((settings.DATA_DIR / "uploads").glob("*")) == before
    assert not list((settings.DATA_DIR / "tmp").glob("upload-*"))

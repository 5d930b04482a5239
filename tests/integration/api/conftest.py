"""The cast of the API's tests: Alice owns, Bob is an outsider, Stefanie is of the staff; and what they work with."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django
import numpy as np
import pytest
import tifffile

django.setup()  # this file is read before pytest-django sets Django up when it is named on the command line

from django.utils import timezone  # noqa: E402
from rest_framework.test import APIClient  # noqa: E402

from scheduling.models import Job, Slide, User, Workflow  # noqa: E402
from scheduling.states import JobState, WorkflowStatus  # noqa: E402

JOBS = [
    {"job_id": "j1", "branch": "b1", "job_type": "SEGMENT_CELLS"},
    {"job_id": "j2", "branch": "b1", "job_type": "TISSUE_MASK"},
]


def client_of(user_id: str) -> APIClient:
    """A client that names its user by the header and shows server errors as answers."""
    return APIClient(HTTP_X_USER_ID=user_id, raise_request_exception=False)


@pytest.fixture
def alice(db: None) -> APIClient:
    """The owner."""
    return client_of("alice")


@pytest.fixture
def bob(db: None) -> APIClient:
    """The outsider."""
    return client_of("bob")


@pytest.fixture
def staff(db: None) -> APIClient:
    """One of the staff, signed in."""
    client = APIClient(raise_request_exception=False)
    client.force_login(User.objects.create_user("stefanie", password="correct horse", is_staff=True))
    return client


@pytest.fixture
def set_env(settings: Any) -> Callable[..., None]:
    """Change settings of the environment for one test."""

    def change(**values: Any) -> None:
        settings.ENV = dataclasses.replace(settings.ENV, **values)

    return change


@pytest.fixture(autouse=True)
def _no_limit(set_env: Callable[..., None]) -> None:
    """No rate limit, except in the tests of it."""
    set_env(rate_limit_capacity=0)


@pytest.fixture
def submit(alice: APIClient) -> Callable[..., str]:
    """Submit a workflow as Alice; its id."""

    def post(jobs: list[dict[str, Any]] | None = None, client: APIClient = alice, **extra: Any) -> str:
        answer = client.post("/workflow", {"jobs": jobs or JOBS, **extra})
        assert answer.status_code == 201, answer.content
        return str(answer.json()["workflow_id"])

    return post


def finish(workflow_id: str, state: JobState = JobState.SUCCEEDED) -> None:
    """Put a workflow where the scheduler would have brought it."""
    now = timezone.now()
    Job.objects.filter(workflow__uuid=workflow_id).update(state=state, started_at=now, finished_at=now)
    Workflow.objects.filter(uuid=workflow_id).update(status=WorkflowStatus(state.value), started_at=now, finished_at=now)


def publish(data_dir: Path, workflow_id: str, job_id: str, files: dict[str, bytes]) -> None:
    """Give a finished job its artifacts."""
    job = Job.objects.get(workflow__uuid=workflow_id, job_id=job_id)
    folder = data_dir / "results" / str(job.uuid)
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    job.artifacts = [{"name": n, "size": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in files.items()]
    job.save(update_fields=["artifacts"])


@pytest.fixture(scope="session")
def slide_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A tiled TIFF of 700 by 500 pixels with two levels, 0.5 microns per pixel."""
    return _tiff(tmp_path_factory.mktemp("tiff") / "slide.tif", with_mpp=True)


@pytest.fixture(scope="session")
def slide_without_mpp(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The same, saying nothing of its resolution."""
    return _tiff(tmp_path_factory.mktemp("tiff") / "plain.tif", with_mpp=False)


def _tiff(path: Path, *, with_mpp: bool) -> bytes:
    pixels = np.random.default_rng(7).integers(90, 250, (500, 700, 3), dtype=np.uint8)
    unit: dict[str, Any] = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"} if with_mpp else {}
    with tifffile.TiffWriter(path) as out:
        out.write(pixels, tile=(256, 256), photometric="rgb", subifds=0, **unit)
        out.write(pixels[::2, ::2], tile=(256, 256), photometric="rgb", subfiletype=1)
    return path.read_bytes()


@pytest.fixture
def slide(alice: APIClient, slide_bytes: bytes, settings: Any) -> Slide:
    """A slide of Alice's, registered by its path."""
    folder: Path = settings.DATA_DIR / "slides"
    (folder / "shelf").mkdir(parents=True, exist_ok=True)
    (folder / "shelf" / "one.tif").write_bytes(slide_bytes)
    answer = alice.post("/slide", {"path": "shelf/one.tif"})
    assert answer.status_code == 201, answer.content
    return Slide.objects.get(pk=answer.json()["slide_id"])

"""What is there in the end: over the API as the users see it, and in the database."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.chaos.client import Answers, Client
from tests.chaos.database import Database, json_of, uuid_of
from tests.chaos.work import Submission


@dataclass(frozen=True, kw_only=True)
class File:
    """An artifact as it came over the wire, or as it is recorded."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class StoredJob:
    """A row of a job."""

    uuid: str
    workflow: str
    job_id: str
    state: str
    attempt: int
    tiles_processed: int
    tiles_total: int | None
    artifacts: tuple[File, ...]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that the verdict is based on."""

    #: Workflow ids by user, as the list of the API shows them, every page.
    listed: dict[str, list[str]]
    #: GET /workflow/{id}, of each that was accepted.
    workflows: dict[str, dict[str, Any]]
    #: Files as downloaded, by job.
    downloads: dict[str, list[File]]
    jobs: list[StoredJob]
    #: (job, attempt) → how many `job.finished`; job → how many `job.retried`.
    ends: Counter[tuple[str, int]] = field(default_factory=Counter)
    retried: Counter[str] = field(default_factory=Counter)


def collect(port: int, submissions: Sequence[Submission], database: Database, answers: Answers) -> Evidence:
    """Ask the API for everything, and read the database. Raises TimeoutError, KeyError for an answer that is none."""
    by_user: dict[str, list[Submission]] = {}
    for submission in submissions:
        by_user.setdefault(submission.user, []).append(submission)
    with ThreadPoolExecutor(max_workers=4) as pool:
        parts = list(pool.map(lambda user: _of_user(Client(port, user, answers), user, by_user[user]), by_user))
    ends, retried = _transitions(database)
    return Evidence(
        listed={user: listed for user, listed, _, _ in parts},
        workflows={key: flow for _, _, flows, _ in parts for key, flow in flows.items()},
        downloads={key: files for _, _, _, downloads in parts for key, files in downloads.items()},
        jobs=_stored(database),
        ends=ends,
        retried=retried,
    )


Part = tuple[str, list[str], dict[str, dict[str, Any]], dict[str, list[File]]]


def _of_user(client: Client, user: str, submissions: Iterable[Submission]) -> Part:
    flows: dict[str, dict[str, Any]] = {}
    downloads: dict[str, list[File]] = {}
    for submission in submissions:
        if submission.workflow is None:
            continue
        answer = client.until_answered("read", "GET", f"/workflow/{submission.workflow}")
        if answer.status_code != 200:  # told by the verdict as lost
            continue
        flow = flows[submission.workflow] = answer.json()
        for job in flow["jobs"]:
            if job["state"] == "SUCCEEDED":
                downloads[job["id"]] = _downloaded(client, submission.workflow, job["job_id"])
    listed = _listed(client)
    client.close()
    return user, listed, flows, downloads


def _listed(client: Client) -> list[str]:
    found: list[str] = []
    page: str | None = "/workflow"
    while page:
        body = client.until_answered("list", "GET", page).json()
        found += [flow["workflow_id"] for flow in body["results"]]
        page = body["next"] and f"{urlsplit(body['next']).path}?{urlsplit(body['next']).query}"
    return found


def _downloaded(client: Client, workflow: str, job_id: str) -> list[File]:
    """The files of a job; one that cannot be read has size −1."""
    listing = client.until_answered("results", "GET", f"/workflow/{workflow}/job/{job_id}/results")
    names = [artifact["name"] for artifact in listing.json()["artifacts"]] if listing.status_code == 200 else []
    files = []
    for name in names:
        answer = client.until_answered("download", "GET", f"/workflow/{workflow}/job/{job_id}/results/{name}")
        size = len(answer.content) if answer.status_code == 200 else -1
        files.append(File(name=name, size=size, sha256=hashlib.sha256(answer.content).hexdigest()))
    return files


def _stored(database: Database) -> list[StoredJob]:
    columns = "j.uuid, w.uuid, j.job_id, j.state, j.attempt, j.tiles_processed, j.tiles_total, j.artifacts"
    rows = database.rows(f"SELECT {columns} FROM scheduling_job j JOIN scheduling_workflow w ON w.id = j.workflow_id ORDER BY j.id")
    return [
        StoredJob(
            uuid=uuid_of(job),
            workflow=uuid_of(workflow),
            job_id=job_id,
            state=state,
            attempt=attempt,
            tiles_processed=processed,
            tiles_total=total,
            artifacts=tuple(File(name=a["name"], size=a["size"], sha256=a["sha256"]) for a in json_of(artifacts)),
        )
        for job, workflow, job_id, state, attempt, processed, total, artifacts in rows
    ]


def _transitions(database: Database) -> tuple[Counter[tuple[str, int]], Counter[str]]:
    ends: Counter[tuple[str, int]] = Counter()
    retried: Counter[str] = Counter()
    for kind, job, data in database.rows(
        "SELECT type, job_uuid, data FROM scheduling_event WHERE type IN ('job.finished', 'job.retried') ORDER BY id"
    ):
        if kind == "job.finished":
            ends[uuid_of(job), json_of(data)["attempt"]] += 1
        else:
            retried[uuid_of(job)] += 1
    return ends, retried

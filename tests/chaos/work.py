"""The workflows that the load submits, and how each may end. Pure: bodies come from a random generator, ends from what was asked."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

TYPES = ("SEGMENT_CELLS", "TISSUE_MASK", "INSTANSEG_WSI")
TYPE_WEIGHTS = (5, 3, 2)
#: The types whose simulation writes `results.json`.
WITH_RESULTS = frozenset({"SEGMENT_CELLS", "INSTANSEG_WSI"})
BRANCHES, JOBS, TILES = 4, 5, (3, 60)
SECONDS_PER_TILE = (0.02, 0.08)
FAILS, SHARES_BRANCH, STOPS, DEPENDS, UNCACHED = 0.08, 0.25, 0.4, 0.3, 0.2
SUCCEEDED, FAILED, CANCELLED = "SUCCEEDED", "FAILED", "CANCELLED"


def body(rng: random.Random, name: str) -> dict[str, Any]:
    """The body of a POST /workflow."""
    branches = [f"b{number}" for number in range(rng.randint(1, BRANCHES))]
    jobs = [_job(rng, number, branches) for number in range(rng.randint(1, JOBS))]
    return {
        "name": name,
        "branch_scope": "user" if rng.random() < SHARES_BRANCH else "workflow",
        "on_failure": "stop" if rng.random() < STOPS else "continue",
        "cache": rng.random() >= UNCACHED,
        "jobs": jobs,
    }


def _job(rng: random.Random, number: int, branches: list[str]) -> dict[str, Any]:
    parameters: dict[str, Any] = {"tiles": rng.randint(*TILES)}
    if rng.random() < 0.5:
        parameters["seconds_per_tile"] = round(rng.uniform(*SECONDS_PER_TILE), 3)
    if rng.random() < FAILS:
        parameters["fail_at_tile"] = rng.randrange(parameters["tiles"])
    job = {
        "job_id": f"j{number}",
        "branch": rng.choice(branches),
        "job_type": rng.choices(TYPES, TYPE_WEIGHTS)[0],
        "parameters": parameters,
    }
    if number and rng.random() < DEPENDS:
        job["depends_on"] = [f"j{rng.randrange(number)}"]
    return job


@dataclass
class Submission:
    """A workflow that a user asked for, and all that the user asked about it. What was asked without an answer may have happened."""

    user: str
    key: str
    body: dict[str, Any]
    #: From the answer; None as long as there was none.
    workflow: str | None = None
    is_cancelled: bool = False
    cancelled_jobs: set[str] = field(default_factory=set)
    #: Retries of the whole, and of single jobs: asked, and the answers 202.
    retries: int = 0
    job_retries: Counter[str] = field(default_factory=Counter)
    confirmed_retries: int = 0
    is_paused: bool = False

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """As submitted."""
        return list(self.body["jobs"])

    def retries_of(self, job_id: str) -> int:
        """How often a retry of this job was asked for, at most."""
        return self.retries + self.job_retries[job_id]


def allowed_ends(submission: Submission) -> dict[str, frozenset[str]]:
    """The states in which each job may have ended.

    A job that nobody cancelled and that waits for nothing cancelled ends in exactly one way: FAILED when its parameters say so,
    CANCELLED after a failed job of its branch under on_failure "stop" or after a job it depends on that did not succeed, else
    SUCCEEDED. A retry of the workflow changes nothing of that; a retry of the job alone lets it run in spite of its branch.
    """
    ends: dict[str, frozenset[str]] = {}
    for place, job in enumerate(submission.jobs):
        own = FAILED if "fail_at_tile" in job["parameters"] else SUCCEEDED
        states = {own}
        if submission.is_cancelled or job["job_id"] in submission.cancelled_jobs:
            states.add(CANCELLED)
        for before in _stopping(submission, place):
            states = _after(ends[before], states, {FAILED}, may_run_anyway=submission.job_retries[job["job_id"]] > 0)
        for needed in job.get("depends_on", ()):
            states = _after(ends[needed], states, {FAILED, CANCELLED}, may_run_anyway=False)
        ends[job["job_id"]] = frozenset(states)
    return ends


def _stopping(submission: Submission, place: int) -> list[str]:
    """Jobs before this one in its branch whose failure ends the branch."""
    if submission.body["on_failure"] != "stop":
        return []
    branch = submission.jobs[place]["branch"]
    return [job["job_id"] for job in submission.jobs[:place] if job["branch"] == branch]


def _after(earlier: frozenset[str], states: set[str], bad: set[str], *, may_run_anyway: bool) -> set[str]:
    if not earlier & bad:
        return states
    return {CANCELLED} if earlier <= bad and not may_run_anyway else states | {CANCELLED}

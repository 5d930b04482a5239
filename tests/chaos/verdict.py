"""Was anything lost, done twice, or ended otherwise than it should? Pure: submissions and evidence in, sentences out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from scheduling.states import JobState, workflow_status
from tests.chaos.evidence import Evidence, StoredJob
from tests.chaos.work import FAILED, SUCCEEDED, WITH_RESULTS, Submission, allowed_ends


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is wrong; empty when nothing is."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


def judge(submissions: Sequence[Submission], evidence: Evidence) -> Verdict:
    """Compare what was asked for with what is there."""
    stored: dict[str, dict[str, StoredJob]] = {}
    for job in evidence.jobs:
        stored.setdefault(job.workflow, {})[job.job_id] = job
    lost, doubled = [*_lost(submissions, evidence, stored)], [*_doubled(submissions, evidence)]
    violations = [wrong for s in submissions for wrong in _wrong_ends(s, stored.get(str(s.workflow), {}))]
    violations += [wrong for s in submissions for wrong in _wrong_attempts(s, stored.get(str(s.workflow), {}), evidence)]
    violations += [wrong for s in submissions for wrong in _wrong_status(s, evidence)]
    violations += [wrong for job in evidence.jobs for wrong in _wrong_files(job, evidence)]
    return Verdict(lost=lost, doubled=doubled, violations=violations)


def _lost(submissions: Sequence[Submission], evidence: Evidence, stored: dict[str, dict[str, StoredJob]]) -> Iterator[str]:
    for submission in submissions:
        flow = submission.workflow
        if flow is None:
            yield f"{submission.key} never got an answer"
        elif flow not in evidence.workflows or flow not in evidence.listed.get(submission.user, []):
            yield f"workflow {flow} ({submission.key}) was accepted and is not there"
        elif missing := [job["job_id"] for job in submission.jobs if job["job_id"] not in stored.get(flow, {})]:
            yield f"workflow {flow}: no job {', '.join(missing)}"
    for job in evidence.jobs:
        if job.state not in {SUCCEEDED, FAILED, "CANCELLED"}:
            yield f"{_name(job)} is still {job.state}"
        yield from (f"{_name(job)}: attempt {a} never ended" for a in range(1, job.attempt + 1) if not evidence.ends[job.uuid, a])


def _doubled(submissions: Sequence[Submission], evidence: Evidence) -> Iterator[str]:
    known = {submission.workflow for submission in submissions}
    for user, listed in evidence.listed.items():
        yield from (f"{user}: workflow {flow} is listed {count} times" for flow, count in Counter(listed).items() if count > 1)
        yield from (f"{user}: workflow {flow} is nobody's submission" for flow in listed if flow not in known)
    named = Counter(submission.workflow for submission in submissions if submission.workflow)
    yield from (f"workflow {flow} answers {count} submissions" for flow, count in named.items() if count > 1)
    for (job, attempt), count in evidence.ends.items():
        if count > 1:
            yield f"job {job} ended {count} times in attempt {attempt}"


def _wrong_ends(submission: Submission, jobs: dict[str, StoredJob]) -> Iterator[str]:
    allowed = allowed_ends(submission)
    for asked in submission.jobs:
        job = jobs.get(asked["job_id"])
        if job is None:
            continue
        if job.state not in allowed[job.job_id]:
            yield f"{_name(job)} ended {job.state}, should be {' or '.join(sorted(allowed[job.job_id]))}"
        total, done = asked["parameters"]["tiles"], job.tiles_processed
        is_short = job.state in {SUCCEEDED, FAILED} and (job.state == SUCCEEDED) != (done == total)
        if job.tiles_total != total or done > total or is_short:
            yield f"{_name(job)} ended {job.state} with {done} of {job.tiles_total} tiles, {total} were asked for"


def _wrong_attempts(submission: Submission, jobs: dict[str, StoredJob], evidence: Evidence) -> Iterator[str]:
    for job in jobs.values():
        retried = evidence.retried[job.uuid]
        if job.attempt != 1 + retried:
            yield f"{_name(job)} is at attempt {job.attempt} after {retried} retries"
        if retried > submission.retries_of(job.job_id):
            yield f"{_name(job)} was retried {retried} times, asked for {submission.retries_of(job.job_id)} times"
        yield from (f"{_name(job)}: attempt {a} is none" for uuid, a in evidence.ends if uuid == job.uuid and a > job.attempt)
    if submission.confirmed_retries > sum(evidence.retried[job.uuid] for job in jobs.values()):
        yield f"workflow {submission.workflow}: {submission.confirmed_retries} retries were accepted, fewer happened"


def _wrong_status(submission: Submission, evidence: Evidence) -> Iterator[str]:
    """The workflow as the API shows it must follow from its jobs as the API shows them."""
    flow = evidence.workflows.get(str(submission.workflow))
    if flow is None:
        return
    counts = Counter(JobState(job["state"]) for job in flow["jobs"])
    due = workflow_status(dict(counts), has_started=True)
    if flow["status"] != due or not flow["finished_at"]:
        yield f"workflow {flow['workflow_id']} is {flow['status']}, finished at {flow['finished_at']}; its jobs make it {due}"
    if [job["job_id"] for job in flow["jobs"]] != [job["job_id"] for job in submission.jobs]:
        yield f"workflow {flow['workflow_id']} does not list its jobs as submitted"


def _wrong_files(job: StoredJob, evidence: Evidence) -> Iterator[str]:
    if job.state != SUCCEEDED:
        return
    shown = next((j for j in evidence.workflows.get(job.workflow, {}).get("jobs", []) if j["id"] == job.uuid), None)
    wants_results = shown is not None and shown["job_type"] in WITH_RESULTS
    if wants_results and "results.json" not in {file.name for file in job.artifacts}:
        yield f"{_name(job)} SUCCEEDED without results.json"
    got = {file.name: file for file in evidence.downloads.get(job.uuid, [])}
    for file in job.artifacts:
        if got.get(file.name) != file:
            yield f"{_name(job)}: {file.name} is recorded with {file.size} bytes; over the API: {got.get(file.name)}"


def _name(job: StoredJob) -> str:
    return f"job {job.uuid} ({job.job_id} of workflow {job.workflow})"

"""The rule that the database's rows and its log tell the same about what is unfinished."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from scheduling.audit.checker import Checker
from scheduling.audit.ending import unfinished_jobs
from scheduling.audit.facts import Job
from scheduling.audit.judging import Violation
from scheduling.states import JobState


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """An unfinished job as the table has it."""

    job: str
    workflow: str
    user: int
    state: JobState
    epoch: int
    attempt: int


#: The id of the newest event of each of these (workflow, job); none for a job without events.
Newest = Callable[[Collection[tuple[str, str]]], dict[str, int]]


def rows_agree(checker: Checker, rows: Collection[Row], newest: Newest) -> Iterator[Violation]:
    """Every job that the log leaves unfinished has its row, with the same state, epoch and attempt, and no other row is unfinished.

    `rows` are read after the log; a job of which the log has grown since is not judged.
    """
    by_job = {row.job: row for row in rows}
    suspects: dict[str, Violation] = {}
    told: dict[str, int] = {}
    for job in unfinished_jobs(checker.facts):
        row = by_job.pop(job.uuid, None)
        message = _difference(job, row)
        if message:
            suspects[job.uuid] = _violation(job.uuid, job.workflow.uuid, job.user.key, message)
            told[job.uuid] = job.told
    for row in by_job.values():
        known = checker.facts.jobs.get(row.job)
        if known is None and checker.facts.is_partial:
            continue
        message = f"its row is {row.state}, the log has {'it ' + known.state if isinstance(known, Job) else 'no such unfinished job'}"
        suspects[row.job] = _violation(row.job, row.workflow, row.user, message)
        told[row.job] = known.told if isinstance(known, Job) else checker.last_id
    if suspects:
        ids = newest([(found.workflow or "", job) for job, found in suspects.items()])
        yield from (found for job, found in suspects.items() if ids.get(job, 0) <= told[job])


def _difference(job: Job, row: Row | None) -> str | None:
    if row is None:
        return f"the log has it {job.state}, and there is no unfinished row of it"
    told: tuple[object, ...] = (job.state, job.attempt)
    has: tuple[object, ...] = (row.state, row.attempt)
    if job.order is not None:
        told, has = (*told, job.epoch), (*has, row.epoch)
    words = ("state", "attempt", "epoch")
    parts = [f"{word} {want} was expected, its row has {got}" for word, want, got in zip(words, told, has, strict=False) if want != got]
    return "; ".join(parts) or None


def _violation(job: str, workflow: str, user: int, message: str) -> Violation:
    return Violation(rule="rows-agree", event=0, type="", message=message, user=user, workflow=workflow, job=job)

"""Rules of tiles: a job SUCCEEDS with all of them and no other, and never loses one within an attempt."""

from __future__ import annotations

from functools import lru_cache

from scheduling.audit.facts import Facts, Job
from scheduling.audit.judging import job_rules
from scheduling.audit.log_event import LogEvent
from scheduling.states import JobState
from scheduling.tilestore.tilefiles import index_digest


@lru_cache(maxsize=4096)
def full_digest(total: int) -> str:
    """The digest of all indices below `total`."""
    return index_digest([[0, total]] if total else [])


@job_rules.on("job.finished")
def all_tiles(facts: Facts, event: LogEvent, job: Job) -> str | None:
    """A SUCCEEDED job has every tile, once: as many as its total, and the digest of the full set of indices."""
    if event.data["state"] != JobState.SUCCEEDED:
        return None
    tiles, total = event.data["tiles"], event.data["tiles_total"]
    if total is None or tiles != total:
        return f"{total} tiles were expected, not {tiles}"
    if job.total is not None and total != job.total:
        return f"a total of {job.total} tiles was expected, not {total}"
    if event.data["index_sha256"] != full_digest(total):
        return f"the digest of the indices 0-{total} was expected, not {event.data['index_sha256'] or 'none'}"
    return None


@job_rules.on("job.finished")
def tiles_within_total(facts: Facts, event: LogEvent, job: Job) -> str | None:
    """A job never has more tiles than its total, and none before it is planned."""
    tiles, total = event.data["tiles"], event.data["tiles_total"]
    if event.data["state"] == JobState.SUCCEEDED or tiles <= (total or 0):
        return None
    return f"at most {total or 0} tiles were expected, not {tiles}"


@job_rules.on("job.taken_back")
def tiles_within_known_total(facts: Facts, event: LogEvent, job: Job) -> str | None:
    """A job that is taken back has no more tiles than its total, where that is known."""
    tiles = event.data["tiles"]
    return f"at most {job.total} tiles were expected, not {tiles}" if job.total is not None and tiles > job.total else None


@job_rules.on("job.taken_back", "job.finished")
def tiles_never_fall(facts: Facts, event: LogEvent, job: Job) -> str | None:
    """Within an attempt no tile that counted is lost."""
    tiles = event.data["tiles"]
    return f"at least {job.tiles} tiles were expected, not {tiles}" if tiles < job.tiles else None

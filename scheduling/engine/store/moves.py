"""The one place where a job's state is written: a guarded UPDATE along the table of transitions."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db.models import QuerySet

from scheduling.models import Job
from scheduling.states import JobState, is_allowed


def move(jobs: QuerySet[Job], sources: Collection[JobState], target: JobState, **fields: Any) -> int:
    """Move those of these jobs that are in one of `sources` to `target`, with the fields; how many were moved.

    Raises ValueError for a transition that the table does not have.
    """
    for source in sources:
        if not is_allowed(source, target):
            raise ValueError(f"a job does not go from {source} to {target}")
    return jobs.filter(state__in=sources).update(state=target, **fields)

"""The one place where a job's state is written by the web's moves, and where every writer asks the table of transitions."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db.models import QuerySet

from scheduling.models import Job
from scheduling.states import JobState, is_allowed


def check_moves(sources: Collection[JobState], targets: Collection[JobState]) -> None:
    """Raises ValueError for a transition that the table does not have."""
    for source in sources:
        for target in targets:
            if not is_allowed(source, target):
                raise ValueError(f"a job does not go from {source} to {target}")


def move(jobs: QuerySet[Job], sources: Collection[JobState], target: JobState, **fields: Any) -> int:
    """Move those of these jobs that are in one of `sources` to `target`, with the fields; how many were moved.

    Raises ValueError for a transition that the table does not have.
    """
    check_moves(sources, {target})
    return jobs.filter(state__in=sources).update(state=target, **fields)

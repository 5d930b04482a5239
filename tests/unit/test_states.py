"""The words for states and the one table of transitions."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.states import FINISHED, RETRYABLE, TRANSITIONS, UNFINISHED, JobState, WorkflowStatus, is_allowed, workflow_status

P, R, S, F, C = JobState.PENDING, JobState.RUNNING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED


def test_every_state_is_either_unfinished_or_finished() -> None:
    assert set(JobState) == UNFINISHED | FINISHED
    assert not UNFINISHED & FINISHED


def test_the_table_knows_every_state_and_only_an_explicit_retry_leaves_an_end() -> None:
    assert set(TRANSITIONS) == set(JobState)
    assert {state for state in FINISHED if TRANSITIONS[state]} == RETRYABLE
    assert all(TRANSITIONS[state] == {P} for state in RETRYABLE)
    assert TRANSITIONS[R] == {P, S, F, C}


@pytest.mark.parametrize(("target", "sources"), [(P, {R, F, C}), (R, {P}), (S, {R}), (F, {R}), (C, {P, R})])
def test_a_job_goes_only_along_the_table(target: JobState, sources: set[JobState]) -> None:
    assert {source for source in JobState if is_allowed(source, target)} == sources


@pytest.mark.parametrize(
    ("states", "has_started", "status"),
    [
        ([P, P], False, "ACCEPTED"),
        ([P, R], True, "RUNNING"),
        ([P, S], True, "RUNNING"),
        ([P, C], False, "ACCEPTED"),
        ([R, F], True, "RUNNING"),
        ([S, S], True, "SUCCEEDED"),
        ([S, C], True, "CANCELLED"),
        ([S, C, F], True, "FAILED"),
        ([C, C], False, "CANCELLED"),
    ],
)
def test_a_workflows_status_follows_from_its_jobs(states: list[JobState], has_started: bool, status: str) -> None:
    assert workflow_status(dict(Counter(states)), has_started=has_started) == WorkflowStatus(status)


@given(st.lists(st.sampled_from(list(JobState)), min_size=1))
def test_a_workflow_has_ended_exactly_when_all_its_jobs_have(states: list[JobState]) -> None:
    status = workflow_status(dict(Counter(states)), has_started=True)
    assert (status != WorkflowStatus.RUNNING) == all(state in FINISHED for state in states)

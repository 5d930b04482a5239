"""How often progress is told, and that nothing changed stays untold."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.engine.entry import Entry
from scheduling.engine.reporting import ProgressReporter
from tests.unit.engine.making import claimed, config


def entry(job: int = 1, tiles: int = 100) -> Entry:
    """A planned job."""
    return Entry(claimed=claimed(job, tiles=tiles))


def test_the_first_change_of_a_quiet_job_is_told_at_once_and_the_next_within_the_interval() -> None:
    reporter, job = ProgressReporter(config(progress_to_browser_s=0.2)), entry()
    assert reporter.for_browser([job], 0.0) == [job]
    job.mark_done([0])
    assert reporter.for_browser([job], 0.1) == []
    assert reporter.has_untold([job])
    assert reporter.for_browser([job], 0.2) == [job]
    assert reporter.for_browser([job], 9.0) == []
    job.mark_done([1])
    assert reporter.for_browser([job], 9.01) == [job]


def test_the_database_gets_all_changes_in_one_batch_at_most_once_an_interval() -> None:
    reporter, jobs = ProgressReporter(config(progress_to_database_s=0.25)), [entry(1), entry(2)]
    assert reporter.for_database(jobs, 0.0) == jobs
    for job in jobs:
        job.mark_done([0])
    assert reporter.for_database(jobs, 0.2) == []
    assert reporter.for_database(jobs, 0.25) == jobs
    assert reporter.for_database(jobs, 9.0) == []


def test_a_job_that_ended_and_runs_again_is_told_again() -> None:
    reporter, job = ProgressReporter(config()), entry()
    reporter.for_database([job], 0.0)
    reporter.for_browser([job], 0.0)
    assert not reporter.has_untold([job])
    reporter.forget(1)
    assert reporter.has_untold([job])


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.001, 0.3), st.integers(0, 3)), max_size=60))
def test_rates_hold_and_the_last_progress_is_always_told(steps: list[tuple[float, int]]) -> None:
    reporter, job, now, told = ProgressReporter(config()), entry(), 0.0, []
    for pause, tiles in steps:
        now += pause
        job.mark_done(range(job.done, min(100, job.done + tiles)))
        if reporter.for_browser([job], now):
            told.append((now, job.progress))
    assert all(later - earlier >= 0.2 for (earlier, _), (later, _) in itertools.pairwise(told))
    reporter.for_browser([job], now + 1)
    reporter.for_database([job], now + 1)
    assert not reporter.has_untold([job])

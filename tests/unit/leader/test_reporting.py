"""How often progress is told, and that nothing changed stays untold."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.engine.entry import Entry
from scheduling.leader.reporting import ProgressReporter
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


@settings(max_examples=25, deadline=None)
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


def paced(reporter: ProgressReporter, job: Entry, tiles_per_s: float, start: float, seconds: int) -> float | None:
    """What is told after so many seconds at this pace."""
    for second in range(1, seconds + 1):
        made = range(job.done, job.done + int(tiles_per_s))
        job.mark_done(made)
        job.measure(len(made), 1.0)
        assert reporter.for_database([job], start + second) == [job]
    return job.tiles_per_s


def test_the_pace_of_a_job_is_that_of_its_last_seconds_and_exact_when_it_is_steady() -> None:
    reporter, job = ProgressReporter(config()), entry(tiles=10_000)
    reporter.for_database([job], 100.0)
    assert job.tiles_per_s is None
    assert paced(reporter, job, 4, 100.0, 1) == pytest.approx(4.0)
    assert paced(reporter, job, 4, 101.0, 59) == pytest.approx(4.0)
    assert paced(reporter, job, 40, 160.0, 15) == pytest.approx(40 - 36 / math.e, rel=0.05)
    assert paced(reporter, job, 40, 175.0, 120) == pytest.approx(40.0, rel=0.01)


def test_tiles_found_on_the_disk_and_time_before_the_plan_are_no_pace() -> None:
    reporter, job = ProgressReporter(config()), Entry(claimed=claimed(1, tiles=None))
    job.plan(1000, range(500))
    reporter.for_database([job], 60.0)
    assert paced(reporter, job, 10, 60.0, 2) == pytest.approx(10.0)


def test_a_new_claim_of_a_job_has_no_pace_yet() -> None:
    reporter, job = ProgressReporter(config()), entry(tiles=1000)
    reporter.for_database([job], 0.0)
    assert paced(reporter, job, 10, 0.0, 5) is not None
    again = Entry(claimed=claimed(1, tiles=1000, epoch=999))
    assert reporter.for_database([again], 10.0) == [again]
    assert again.tiles_per_s is None


def test_fair_share_clocks_are_saved_when_they_have_moved_and_not_too_often() -> None:
    reporter = ProgressReporter(config(shares_to_database_s=1.0))
    assert reporter.shares_to_save({(1, "cpu"): 2.0}, 10.0) == {(1, "cpu"): 2.0}
    assert reporter.shares_to_save({(1, "cpu"): 3.0}, 10.5) == {}
    assert reporter.shares_to_save({(1, "cpu"): 3.0, (2, "cpu"): 1.0}, 11.0) == {(1, "cpu"): 3.0, (2, "cpu"): 1.0}
    assert reporter.shares_to_save({(1, "cpu"): 3.0, (2, "cpu"): 1.5}, 12.0) == {(2, "cpu"): 1.5}

"""Samples for charts: all of a time, or so many at even steps."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from scheduling.models import MetricSample
from scheduling.selectors.samples import samples
from tests.integration.store.test_query_plans import plan_of, statements

pytestmark = pytest.mark.django_db

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def at(step: int) -> datetime:
    return BEGAN + timedelta(seconds=15 * step)


def steps(since: int, until: int, at_most: int) -> list[int]:
    return [row["step"] for row in samples(since=at(since), until=at(until), at_most=at_most)]


@pytest.fixture(autouse=True)
def _hour() -> None:
    """An hour of samples, each with its number."""
    MetricSample.objects.bulk_create(MetricSample(at=at(step), data={"step": step}) for step in range(240))


def test_a_short_time_is_shown_sample_by_sample_with_its_times() -> None:
    assert samples(since=at(3), until=at(5), at_most=100) == [
        {"at": "2026-01-01T00:00:45.000000Z", "step": 3},
        {"at": "2026-01-01T00:01:00.000000Z", "step": 4},
    ]
    assert steps(-10, 1, 5) == [0]
    assert steps(500, 900, 5) == []


@pytest.mark.parametrize("at_most", [1, 2, 7, 60, 239, 240, 241])
def test_a_long_time_is_thinned_evenly_and_keeps_the_newest(at_most: int) -> None:
    found = steps(0, 240, at_most)
    assert len(found) == min(at_most, 240)
    assert found[-1] == 239
    gaps = {later - earlier for earlier, later in itertools.pairwise(found)}
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_less_than_one_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        steps(0, 9, 0)


def test_samples_are_found_by_their_time() -> None:
    MetricSample.objects.bulk_create(MetricSample(at=at(step)) for step in range(1000, 6000))
    [keys, _] = statements(lambda: samples(since=at(0), until=at(10), at_most=5))
    assert "scheduling_metricsample_at" in "\n".join(plan_of(keys))

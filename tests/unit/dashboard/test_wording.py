"""How numbers and times are written, in Python and in the browser's twin of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import wording


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0s"), (21.9, "21s"), (60, "1m 00s"), (125, "2m 05s"), (3840, "1h 04m"), (183_600, "2d 3h"), (-4, "0s")],
)
def test_a_duration_is_written_with_two_units_at_most(seconds: float, words: str) -> None:
    assert wording.duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "about 5s"), (7, "about 10s"), (61, "about 1m 15s"), (599, "about 10m 00s"), (601, "about 11m 00s"), (None, "not known yet")],
)
def test_an_estimate_is_rounded_up_so_that_it_does_not_twitch(seconds: float | None, words: str) -> None:
    assert wording.estimate(seconds) == words


def test_an_infinite_estimate_is_not_known() -> None:
    assert wording.estimate(float("inf")) == wording.UNKNOWN


@given(total=st.integers(1, 1_000_000), missing=st.integers(0, 1_000_000))
def test_percent_is_100_only_when_all_is_done(total: int, missing: int) -> None:
    processed = max(0, total - missing)
    assert (wording.percent(processed / total) == 100) == (processed == total)


@pytest.mark.parametrize(("n", "words"), [(1, "1 branch"), (2, "2 branches"), (1234, "1,234 branches")])
def test_nouns_agree_with_their_number(n: int, words: str) -> None:
    assert wording.plural(n, "branch") == words


@pytest.mark.parametrize(("n", "words"), [(912, "912 B"), (14_200, "14.2 kB"), (3_100_000, "3.1 MB"), (250_000_000_000, "250 GB")])
def test_sizes_are_written_in_powers_of_a_thousand(n: int, words: str) -> None:
    assert wording.size(n) == words


def test_a_time_that_has_not_come_has_no_length() -> None:
    assert wording.seconds_between(None, None, datetime(2026, 1, 2, tzinfo=UTC)) is None


def test_a_time_between_two_moments_of_a_body_is_in_seconds() -> None:
    assert wording.seconds_between("2026-01-02T03:04:05.500000Z", "2026-01-02T03:05:05.500000Z", datetime(2027, 1, 1, tzinfo=UTC)) == 60

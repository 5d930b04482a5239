"""The rules of the live stream: a snapshot and the deltas after it add up, progress never falls, one delta without an answer."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dashboard.live import Flow, Pace, Picture, difference, not_behind, with_progress
from scheduling.live.updates import JobProgress
from scheduling.selectors.workflows import mean_progress

NAMES = {"jobs": "job_id", "results": "workflow_id"}


def job(key: int = 1, **changes: Any) -> dict[str, Any]:
    plain = {
        "job_id": f"j{key}",
        "id": f"id-{key}",
        "state": "RUNNING",
        "attempt": 1,
        "tiles_total": 20,
        "tiles_processed": 0,
        "progress": 0.0,
    }
    return plain | changes


def flow_body(*jobs: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"workflow_id": "w", "status": "RUNNING", "jobs": list(jobs), "progress": mean_progress(j["progress"] for j in jobs)} | changes


def applied(body: dict[str, Any], delta: dict[str, Any]) -> dict[str, Any]:
    """What a client does with a delta."""
    result = copy.deepcopy(body)
    for key, value in delta.items():
        if key in NAMES:
            for change in value:
                entry = next(e for e in result[key] if e[NAMES[key]] == change[NAMES[key]])
                entry.update(change)
        else:
            result[key] = value
    return result


def report(key: int = 1, tiles: int = 5, attempt: int = 1, total: int | None = 20) -> JobProgress:
    return {"id": f"id-{key}", "attempt": attempt, "tiles_processed": tiles, "tiles_total": total}


values = st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
entries = st.lists(st.fixed_dictionaries({"state": values, "error": values}), min_size=1, max_size=4)


@given(rounds=st.lists(st.tuples(values, entries), min_size=1, max_size=6))
def test_a_snapshot_and_the_deltas_after_it_add_up_to_the_newest_body(rounds: list[tuple[Any, list[dict[str, Any]]]]) -> None:
    size = min(len(jobs) for _, jobs in rounds)
    bodies = [
        {"status": status, "results": [{"workflow_id": str(n)} | entry for n, entry in enumerate(jobs[:size])]} for status, jobs in rounds
    ]
    picture = Picture(bodies[0])
    held = copy.deepcopy(dict(picture.snapshot()))
    for body in bodies[1:]:
        picture.take_read(body)
        changes = picture.changes()
        assert changes is not None
        held = applied(held, changes)
        assert held == body


def test_only_changed_fields_travel_with_the_names_of_their_job() -> None:
    before, after = flow_body(job(1), job(2)), flow_body(job(1), job(2, state="SUCCEEDED"), status="RUNNING")
    assert difference(before, after) == {"jobs": [{"job_id": "j2", "id": "id-2", "state": "SUCCEEDED"}]}


def test_another_set_of_entries_needs_a_snapshot() -> None:
    assert difference(flow_body(job(1)), flow_body(job(1), job(2))) is None


def test_another_set_of_keys_needs_a_snapshot() -> None:
    assert difference({"a": 1}, {"a": 1, "b": 2}) is None


def test_what_piled_up_is_one_delta_with_the_last_values() -> None:
    picture = Picture(flow_body(job()))
    picture.snapshot()
    for tiles in (1, 4, 9):
        picture.take_progress([report(tiles=tiles)])
    assert picture.changes() == {"jobs": [{"job_id": "j1", "id": "id-1", "tiles_processed": 9, "progress": 9 / 20}], "progress": 9 / 20}
    assert picture.changes() == {}


@given(reports=st.lists(st.tuples(st.integers(-2, 25), st.integers(1, 2)), max_size=20))
def test_progress_never_falls_within_an_attempt_and_never_exceeds_the_total(reports: list[tuple[int, int]]) -> None:
    body: Any = flow_body(job())
    for tiles, attempt in reports:
        before = body["jobs"][0]["tiles_processed"]
        body = with_progress(body, [report(tiles=tiles, attempt=attempt)])
        assert before <= body["jobs"][0]["tiles_processed"] <= 20
    assert body["progress"] == body["jobs"][0]["tiles_processed"] / 20


def test_a_report_of_an_earlier_attempt_changes_nothing() -> None:
    body = flow_body(job(attempt=2))
    assert with_progress(body, [report(tiles=9, attempt=1)]) is body


def test_a_report_that_comes_after_the_end_changes_nothing() -> None:
    body = flow_body(job(state="FAILED", tiles_processed=3))
    assert with_progress(body, [report(tiles=9)]) is body


def test_a_report_tells_the_total_of_a_job_that_was_planned_since() -> None:
    body = with_progress(flow_body(job(tiles_total=None)), [report(tiles=5, total=50)])
    assert body["jobs"][0]["tiles_total"] == 50
    assert body["jobs"][0]["progress"] == 0.1


def test_a_read_that_lags_behind_reports_does_not_lower_tiles() -> None:
    assert not_behind(flow_body(job(tiles_processed=3)), flow_body(job(tiles_processed=8)))["jobs"][0]["tiles_processed"] == 8


def test_a_read_of_an_ended_job_is_taken_as_it_is() -> None:
    read = flow_body(job(state="FAILED", tiles_processed=3))
    assert not_behind(read, flow_body(job(tiles_processed=8))) is read


def test_a_read_of_another_attempt_is_taken_as_it_is() -> None:
    read = flow_body(job(attempt=2, tiles_processed=3))
    assert not_behind(read, flow_body(job(tiles_processed=8))) is read


def test_frames_are_numbered_from_one_and_wait_for_their_answer() -> None:
    flow = Flow(patience_s=30)
    assert (flow.number(0), flow.is_open) == (1, False)
    assert flow.acknowledge(1)
    assert flow.is_open
    assert (flow.number(1), flow.number(2)) == (2, 3)
    assert flow.acknowledge(2)
    assert not flow.is_open
    assert flow.acknowledge(3)
    assert flow.is_open


def test_a_frame_that_was_never_sent_cannot_be_acknowledged() -> None:
    flow = Flow(patience_s=30)
    flow.number(0)
    assert not flow.acknowledge(2)
    assert not flow.acknowledge(0)
    assert not flow.is_open


def test_patience_counts_from_the_oldest_unanswered_frame() -> None:
    flow = Flow(patience_s=30)
    assert flow.deadline_s() is None
    flow.number(5)
    flow.number(9)
    assert flow.deadline_s() == 35
    flow.acknowledge(2)
    assert flow.deadline_s() is None


def test_a_topic_is_read_soon_after_news_but_not_faster_than_its_gap() -> None:
    pace = Pace.started(100, safety_s=5)
    assert pace.due_s == 105
    pace.news(100.05, gap_s=0.2)
    assert pace.due_s == 100.2
    pace.news(100.1, gap_s=1.0)
    assert pace.due_s == 100.2
    pace.was_read(100.2)
    pace.news(103, gap_s=1.0)
    assert pace.due_s == 103

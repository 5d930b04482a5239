"""The pure parts of the fault suite: the plan, the load's workflows, recovery times, and the verdict on data that is broken."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.services.dependencies import Needing, check_dependencies
from tests.chaos import settings
from tests.chaos.evidence import Evidence, File, StoredJob
from tests.chaos.plan import RETURN_S, STOPPED, STOPPED_ON_SQLITE_S, WRITERS, Kind, draw
from tests.chaos.recovery import Sample, all_resumed_s, percentile, resumed_s, standstills
from tests.chaos.report import Recovery, Report
from tests.chaos.verdict import Verdict, judge
from tests.chaos.work import Submission, allowed_ends, body

FILE = File(name="results.json", size=144, sha256="ab")
DATABASES = st.sampled_from(settings.DATABASES)


# -- settings and plan


def test_the_seed_is_drawn_when_none_is_given_and_a_run_lasts_ten_minutes_on_sqlite() -> None:
    read = settings.read({})
    assert (read.seconds, read.database) == (600, "sqlite")
    assert 0 <= read.seed < 10**6


@pytest.mark.parametrize("name, value", [("CHAOS_SEED", "x"), ("CHAOS_SECONDS", "1.5"), ("CHAOS_SECONDS", "3"), ("CHAOS_DATABASE", "db2")])
def test_a_bad_setting_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(settings.BadSetting, match=f"^{name}="):
        settings.read({name: value})


@given(seed=st.integers(0, 10**9), seconds=st.integers(20, 1200), database=DATABASES)
def test_a_plan_is_the_same_for_the_same_seed_and_keeps_its_times(seed: int, seconds: int, database: str) -> None:
    plan = draw(seed, seconds, database)
    assert plan == draw(seed, seconds, database)
    for before, fault in pairwise(plan):
        assert fault.at_s - before.at_s - before.lasts_s - RETURN_S.get(before.kind, 0.0) >= 5.9
    for fault in plan:
        assert fault.at_s + fault.lasts_s < seconds
        assert (fault.lasts_s > 0) == (fault.kind in STOPPED or fault.kind is Kind.RESULTS_AWAY)
        if database == "sqlite":
            assert fault.kind is not Kind.POSTGRES_RESTARTED
            assert fault.kind not in WRITERS or fault.lasts_s <= STOPPED_ON_SQLITE_S[1]


def test_other_seeds_give_other_plans_and_a_long_one_has_every_kind() -> None:
    assert draw(1, 600, "postgres") != draw(2, 600, "postgres")
    assert {fault.kind for fault in draw(1, 600, "postgres")} == set(Kind)
    assert {fault.kind for fault in draw(1, 600, "sqlite")} == set(Kind) - {Kind.POSTGRES_RESTARTED}


# -- the load's workflows


@given(seed=st.integers(0, 10**9))
def test_what_is_submitted_waits_in_no_circle_and_can_end_in_some_way(seed: int) -> None:
    asked = body(random.Random(seed), "n")
    jobs = asked["jobs"]
    check_dependencies([Needing(job_id=j["job_id"], branch=j["branch"], depends_on=tuple(j.get("depends_on", ()))) for j in jobs])
    assert all(job["parameters"].get("fail_at_tile", 0) < job["parameters"]["tiles"] for job in jobs)
    ends = allowed_ends(Submission(user="u", key="k", body=asked))
    assert all(len(states) == 1 for states in ends.values()), "what nobody cancels can end in one way alone"


def submission(*jobs: dict[str, Any], on_failure: str = "continue", **asked: Any) -> Submission:
    """Of user u0, accepted as workflow w."""
    return Submission(user="u0", key="k", body={"on_failure": on_failure, "jobs": list(jobs)}, workflow="w", **asked)


def job(name: str, *, branch: str = "b", fails: bool = False, needs: Iterable[str] = ()) -> dict[str, Any]:
    """A job of ten tiles as submitted."""
    parameters = {"tiles": 10, "fail_at_tile": 3} if fails else {"tiles": 10}
    return {"job_id": name, "branch": branch, "job_type": "SEGMENT_CELLS", "parameters": parameters, "depends_on": list(needs)}


def ends_of(asked: Submission) -> list[str]:
    """The allowed ends in order of the jobs, each as letters: S, F, C."""
    return ["".join(sorted(state[0] for state in states)) for states in allowed_ends(asked).values()]


@pytest.mark.parametrize(
    "asked, ends",
    [
        (submission(job("a", fails=True), job("b"), job("c", branch="x")), ["F", "S", "S"]),
        (submission(job("a", fails=True), job("b"), job("c", branch="x"), on_failure="stop"), ["F", "C", "S"]),
        (submission(job("a", fails=True), job("b"), on_failure="stop", retries=2), ["F", "C"]),
        (submission(job("a", fails=True), job("b"), on_failure="stop", job_retries=Counter("b")), ["F", "CS"]),
        (submission(job("a", fails=True), job("b", branch="x", needs=["a"]), job("c", branch="y", needs=["b"])), ["F", "C", "C"]),
        (submission(job("a", fails=True), job("b"), on_failure="stop", cancelled_jobs={"a"}), ["CF", "CS"]),
        (submission(job("a"), job("b", branch="x", needs=["a"]), job("c"), cancelled_jobs={"a"}), ["CS", "CS", "S"]),
        (submission(job("a"), job("b", fails=True), is_cancelled=True), ["CS", "CF"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_job_may_end_only_as_its_parameters_its_branch_its_needs_and_its_user_let_it(asked: Submission, ends: list[str]) -> None:
    assert ends_of(asked) == ends


# -- recovery


def samples(*rows: tuple[float, int, int], running: dict[int, tuple[int, int]] | None = None) -> list[Sample]:
    return [Sample(at=at, tiles=tiles, event=event, running=running or {}) for at, tiles, event in rows]


def test_work_has_resumed_at_the_first_progress_between_two_samples_after_the_fault() -> None:
    seen = samples((0.0, 5, 1), (1.0, 6, 1), (1.1, 7, 1), (1.2, 7, 1), (3.0, 7, 2), (3.1, 9, 2))
    assert resumed_s(1.05, seen) == pytest.approx(1.95), "the outcome seen at 1.1 may have been on its way"
    assert resumed_s(0.0, seen) == pytest.approx(1.0)
    assert resumed_s(3.05, seen) is None


def test_fewer_tiles_are_no_progress() -> None:
    assert resumed_s(0.0, samples((0.0, 5, 1), (1.0, 2, 1), (2.0, 3, 1))) == pytest.approx(2.0)


def test_all_have_resumed_when_the_last_job_that_ran_has_another_mark_or_is_gone() -> None:
    seen = [
        Sample(at=0.0, tiles=0, event=0, running={1: (1, 5), 2: (1, 5), 3: (1, 5)}),
        Sample(at=1.0, tiles=0, event=0, running={1: (1, 6), 2: (1, 5), 3: (1, 5)}),
        Sample(at=2.0, tiles=0, event=0, running={1: (1, 5), 2: (2, 5), 3: (1, 5)}),
    ]
    assert all_resumed_s(0.0, seen) is None
    assert all_resumed_s(0.0, [*seen, Sample(at=4.0, tiles=0, event=0, running={})]) == pytest.approx(4.0)
    assert all_resumed_s(0.0, samples((0.0, 0, 0), (1.0, 0, 0))) == 0.0
    assert all_resumed_s(9.0, seen) is None


def test_standstills_are_what_lies_between_two_progresses() -> None:
    seen = samples((0.0, 0, 0), (1.0, 1, 0), (2.0, 1, 0), (5.0, 2, 0), (6.0, 2, 0), (9.0, 2, 0))
    assert standstills(seen, 2.0) == [(1.0, 4.0), (5.0, 4.0)]
    assert standstills([], 2.0) == []


@given(st.lists(st.floats(0, 100), min_size=1))
def test_a_percentile_is_one_of_the_values_with_so_many_at_or_below_it(values: list[float]) -> None:
    found = percentile(values, 95)
    assert found in values
    assert sum(value <= found for value in values) >= 0.95 * len(values)


def test_a_slow_recovery_or_none_fails_the_run() -> None:
    def report(*times: float | None) -> list[str]:
        found = [Recovery(kind="k", what="", at_s=1.0, lasted_s=0.0, resumed_s=time, all_resumed_s=time) for time in times]
        return Report(settings=settings.read({}), recoveries=found).failures

    assert report(1.0, 12.0) == []
    assert report(1.0, 12.1) == ["recovery: p95 is 12.1 s, at most 12 s are allowed"]
    assert report(1.0, None) == ["never resumed: k at 1.0 s"]


# -- verdict


def stored(job_id: str = "a", **fields: Any) -> StoredJob:
    """A job that SUCCEEDED at the first attempt."""
    right: dict[str, Any] = {"state": "SUCCEEDED", "attempt": 1, "tiles_processed": 10, "tiles_total": 10, "artifacts": (FILE,)}
    return StoredJob(uuid=f"uuid-{job_id}", workflow="w", job_id=job_id, **{**right, **fields})


def evidence(*jobs: StoredJob) -> Evidence:
    """What the API and the log show when all is in order."""
    shown = [{"job_id": j.job_id, "id": j.uuid, "state": j.state, "job_type": "SEGMENT_CELLS"} for j in jobs]
    states = {j.state for j in jobs}
    status = next(state for state in ("FAILED", "CANCELLED", "SUCCEEDED") if state in states)
    return Evidence(
        listed={"u0": ["w"]},
        workflows={"w": {"workflow_id": "w", "status": status, "finished_at": "2026-01-01T00:00:00.000000Z", "jobs": shown}},
        downloads={j.uuid: [FILE] for j in jobs if j.state == "SUCCEEDED"},
        jobs=list(jobs),
        ends=Counter({(j.uuid, attempt): 1 for j in jobs for attempt in range(1, j.attempt + 1)}),
        retried=Counter({j.uuid: j.attempt - 1 for j in jobs}),
    )


RIGHT = evidence(stored())
ASKED = submission(job("a"))


def test_what_is_as_it_should_be_passes() -> None:
    failed = stored("b", state="FAILED", tiles_processed=4, attempt=3, artifacts=())
    asked = submission(job("a"), job("b", fails=True), retries=1, job_retries=Counter("b"), confirmed_retries=2)
    assert judge([ASKED], RIGHT) == Verdict()
    assert judge([asked], evidence(stored(), failed)) == Verdict()


@pytest.mark.parametrize(
    "broken, told",
    [
        (replace(RIGHT, listed={"u0": []}), "is not there"),
        (replace(RIGHT, workflows={}), "is not there"),
        (replace(RIGHT, jobs=[]), "no job a"),
        (evidence(stored(state="CANCELLED"), stored("b", state="RUNNING")), "still RUNNING"),
        (replace(RIGHT, ends=Counter()), "attempt 1 never ended"),
    ],
)
def test_what_was_accepted_and_is_gone_or_goes_on_is_lost(broken: Evidence, told: str) -> None:
    assert any(told in line for line in judge([ASKED], broken).lost)


def test_a_submission_without_an_answer_is_lost() -> None:
    assert judge([replace(ASKED, workflow=None)], RIGHT).lost == ["k never got an answer"]


@pytest.mark.parametrize(
    "broken, told",
    [
        (replace(RIGHT, listed={"u0": ["w", "w"]}), "listed 2 times"),
        (replace(RIGHT, listed={"u0": ["w", "other"]}), "nobody's submission"),
        (replace(RIGHT, ends=Counter({("uuid-a", 1): 2})), "ended 2 times"),
    ],
)
def test_what_is_there_twice_is_doubled(broken: Evidence, told: str) -> None:
    assert any(told in line for line in judge([ASKED], broken).doubled)


def test_one_workflow_for_two_submissions_is_doubled() -> None:
    assert judge([ASKED, replace(ASKED, key="other")], RIGHT).doubled == ["workflow w answers 2 submissions"]


@pytest.mark.parametrize(
    "broken, told",
    [
        (evidence(stored(state="FAILED", tiles_processed=4)), "ended FAILED, should be SUCCEEDED"),
        (evidence(stored(state="CANCELLED", tiles_processed=4)), "ended CANCELLED, should be SUCCEEDED"),
        (evidence(stored(tiles_processed=9)), "with 9 of 10 tiles"),
        (evidence(stored(tiles_total=9, tiles_processed=9)), "10 were asked for"),
        (evidence(stored(attempt=2)), "was retried 1 times, asked for 0 times"),
        (replace(RIGHT, retried=Counter({"uuid-a": 1})), "is at attempt 1 after 1 retries"),
        (replace(RIGHT, ends=Counter({("uuid-a", 1): 1, ("uuid-a", 2): 1})), "attempt 2 is none"),
        (replace(RIGHT, workflows={"w": {**RIGHT.workflows["w"], "status": "FAILED"}}), "its jobs make it SUCCEEDED"),
        (replace(RIGHT, workflows={"w": {**RIGHT.workflows["w"], "finished_at": None}}), "finished at None"),
        (evidence(stored(artifacts=())), "without results.json"),
        (replace(RIGHT, downloads={}), "over the API: None"),
        (replace(RIGHT, downloads={"uuid-a": [replace(FILE, sha256="other")]}), "over the API: File"),
        (replace(RIGHT, downloads={"uuid-a": [replace(FILE, size=-1)]}), "over the API: File"),
    ],
)
def test_what_ended_otherwise_than_it_should_is_a_violation(broken: Evidence, told: str) -> None:
    assert any(told in line for line in judge([ASKED], broken).violations)


def test_a_retry_that_was_accepted_must_have_happened() -> None:
    asked = replace(ASKED, retries=1, confirmed_retries=1)
    assert judge([asked], RIGHT).violations == ["workflow w: 1 retries were accepted, fewer happened"]

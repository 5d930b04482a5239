"""Jobs that depend on others: stored, started in order, cancelled when what they need has failed, given its artifacts."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from scheduling.models import Dependency, Event, User
from scheduling.services.workflows import JobRequest, job_cancel, job_retry, workflow_pause, workflow_resume, workflow_retry
from tests.integration.working import (
    C,
    F,
    Leader,
    S,
    assert_nobody_is_forgotten,
    is_active,
    job_of,
    lead,
    new_slide,
    new_user,
    states,
    status,
    submit,
    waits,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def leader() -> Leader:
    """A scheduler of four workers and three users."""
    return lead()


@pytest.fixture
def alice() -> User:
    """The owner."""
    return new_user()


def job(job_id: str, branch: str, *depends_on: str, **fields: Any) -> JobRequest:
    """A segmentation that depends on others."""
    return JobRequest(**{"job_id": job_id, "branch": branch, "job_type": "SEGMENT_CELLS", "depends_on": depends_on, **fields})


def error(workflow: Any, job_id: str) -> str:
    """Why it ended."""
    return job_of(workflow, job_id).error


def test_dependencies_are_stored_and_told_in_the_order_asked_for(alice: User) -> None:
    workflow = submit(alice, job("a", "1", "c", "b"), job("b", "2"), job("c", "3", "b"))
    rows = Dependency.objects.order_by("id").values_list("job__job_id", "needs__job_id")
    assert list(rows) == [("a", "c"), ("a", "b"), ("c", "b")]
    told = Event.objects.filter(type="job.submitted", workflow_uuid=workflow.uuid).order_by("id")
    assert [(event.data["job_id"], event.data["depends_on"]) for event in told] == [("a", ["c", "b"]), ("b", []), ("c", ["b"])]


def test_a_job_starts_when_all_that_it_depends_on_have_succeeded(alice: User, leader: Leader) -> None:
    workflow = submit(alice, job("a", "1", "b", "c"), job("b", "2"), job("c", "3"))
    leader.settle()
    assert states(workflow) == {"a": "PENDING", "b": "RUNNING", "c": "RUNNING"}
    leader.end(workflow, "b")
    assert states(workflow)["a"] == "PENDING"
    leader.end(workflow, "c")
    assert states(workflow) == {"a": "RUNNING", "b": S, "c": S}


def test_a_job_that_waits_for_another_holds_its_place_in_its_lane(alice: User, leader: Leader) -> None:
    workflow = submit(alice, job("a1", "a", "b1"), job("a2", "a"), job("b1", "b"))
    leader.settle()
    assert states(workflow) == {"a1": "PENDING", "a2": "PENDING", "b1": "RUNNING"}
    leader.end(workflow, "b1")
    assert states(workflow) == {"a1": "RUNNING", "a2": "PENDING", "b1": S}


@pytest.mark.parametrize(("end", "words"), [(F, "has failed"), (C, "was cancelled")])
@pytest.mark.parametrize("rule", ["continue", "stop"])
def test_a_job_that_depends_on_one_that_did_not_succeed_is_cancelled_with_that_reason(
    alice: User, leader: Leader, end: Any, words: str, rule: str
) -> None:
    workflow = submit(alice, job("j1", "b1"), job("j2", "b2", "j1"), job("j3", "b3", "j2"), job("j4", "b4"), on_failure=rule)
    leader.settle()
    leader.end(workflow, "j1", end, error="boom")
    leader.settle()
    assert states(workflow) == {"j1": end, "j2": C, "j3": C, "j4": "RUNNING"}
    assert error(workflow, "j2") == f"job j1, which it depends on, {words}"
    assert error(workflow, "j3") == "job j2, which it depends on, was cancelled"
    told = Event.objects.filter(type="job.finished", data__job_id="j2").get()
    assert (told.actor, told.term, told.epoch, told.reason) == ("scheduler", leader.lease.term, 0, error(workflow, "j2"))
    leader.end(workflow, "j4")
    assert status(workflow) == end
    assert_nobody_is_forgotten()


def test_a_retry_of_the_workflow_runs_both_again_in_order(alice: User, leader: Leader) -> None:
    workflow = submit(alice, job("j2", "b2", "j1"), job("j1", "b1"))
    leader.settle()
    leader.end(workflow, "j1", F)
    leader.settle()
    assert states(workflow) == {"j2": C, "j1": F}
    workflow_retry(workflow=workflow, actor="alice")
    leader.settle()
    assert states(workflow) == {"j2": "PENDING", "j1": "RUNNING"}
    leader.end(workflow, "j1")
    leader.end(workflow, "j2")
    assert states(workflow) == {"j2": S, "j1": S}
    assert [job_of(workflow, name).attempt for name in ("j1", "j2")] == [2, 2]


def test_a_retry_of_the_dependent_alone_is_cancelled_again_with_the_same_reason(alice: User, leader: Leader) -> None:
    workflow = submit(alice, job("j1", "b1"), job("j2", "b2", "j1"))
    leader.settle()
    leader.end(workflow, "j1", F)
    leader.settle()
    job_retry(job=job_of(workflow, "j2"), actor="alice")
    leader.settle()
    assert (states(workflow)["j2"], error(workflow, "j2")) == (C, "job j1, which it depends on, has failed")
    assert job_of(workflow, "j2").attempt == 2
    job_retry(job=job_of(workflow, "j1"), actor="alice")
    job_retry(job=job_of(workflow, "j2"), actor="alice")
    leader.settle()
    leader.end(workflow, "j1")
    assert states(workflow) == {"j1": S, "j2": "RUNNING"}


def test_a_dependent_can_be_cancelled_while_it_waits(alice: User, leader: Leader) -> None:
    workflow = submit(alice, job("j1", "b1"), job("j2", "b2", "j1"), job("j3", "b2"))
    leader.settle()
    job_cancel(job=job_of(workflow, "j2"), actor="alice")
    leader.settle()
    assert states(workflow) == {"j1": "RUNNING", "j2": C, "j3": "RUNNING"}


# -- slots


def test_a_user_whose_jobs_wait_in_a_paused_workflow_gives_the_slot_up(alice: User) -> None:
    leader, bob = lead(max_active_users=1), new_user("bob")
    held, other = submit(alice, job("j1", "b1"), job("j2", "b2", "j1")), submit(bob)
    leader.settle()
    workflow_pause(workflow=held, actor="alice")
    (preempted,) = leader.look().preempt
    assert preempted.job == job_of(held, "j1").pk
    leader.end(held, "j1", "PENDING", reason=preempted.reason)
    leader.settle()
    assert (is_active(alice), waits(alice), states(other)) == (False, False, {"j1": "RUNNING"})
    workflow_resume(workflow=held, actor="alice")
    assert waits(alice)
    leader.end(other)
    leader.settle()
    assert states(held) == {"j1": "RUNNING", "j2": "PENDING"}


def test_jobs_that_wait_for_others_take_no_place_of_a_user_who_can_work(alice: User) -> None:
    leader, bob = lead(max_workers=2, max_active_users=2), new_user("bob")
    flow = submit(alice, job("j1", "b1"), *[job(f"k{n}", f"c{n}", "j1") for n in range(5)])
    others = submit(bob, "j1 a", "j2 b")
    leader.settle()
    assert states(flow)["j1"] == "RUNNING"
    assert states(others) == {"j1": "RUNNING", "j2": "PENDING"}
    assert leader.look().preempt == ()


# -- artifacts


def inputs_of(leader: Leader, workflow: Any, job_id: str) -> list[str]:
    """Uuids of the jobs whose artifacts a claimed job was given."""
    return [ref.job for ref in leader.held[job_of(workflow, job_id).pk].spec.inputs]


def mask(job_id: str, branch: str, **fields: Any) -> JobRequest:
    """A tissue mask."""
    return job(job_id, branch, job_type="TISSUE_MASK", **fields)


def test_the_mask_of_another_branch_is_handed_to_the_segmentation_that_depends_on_it(alice: User, leader: Leader) -> None:
    slide = new_slide(alice).pk
    workflow = submit(alice, mask("mask", "left"), job("cells", "right", "mask"), job("alone", "third"), slide=slide)
    leader.settle()
    leader.end(workflow, "mask", tiles_total=1, tiles_processed=1)
    assert inputs_of(leader, workflow, "cells") == [str(job_of(workflow, "mask").uuid)]
    assert inputs_of(leader, workflow, "alone") == []


def test_a_mask_that_is_named_wins_over_the_branchs_own_and_its_failure_does_no_harm(alice: User, leader: Leader) -> None:
    workflow = submit(alice, mask("named", "left"), mask("own", "right"), job("cells", "right", "named"), slide=new_slide(alice).pk)
    leader.settle()
    leader.end(workflow, "own", F)
    leader.end(workflow, "named", tiles_total=1, tiles_processed=1)
    leader.settle()
    assert inputs_of(leader, workflow, "cells") == [str(job_of(workflow, "named").uuid)]


def test_a_mask_of_another_slide_is_waited_for_but_not_handed_on(alice: User, leader: Leader) -> None:
    one, two = new_slide(alice, "one.tiff").pk, new_slide(alice, "two.tiff").pk
    workflow = submit(alice, mask("mask", "left", slide=one), job("cells", "right", "mask", slide=two))
    leader.settle()
    assert states(workflow)["cells"] == "PENDING"
    leader.end(workflow, "mask", tiles_total=1, tiles_processed=1)
    assert inputs_of(leader, workflow, "cells") == []


def test_claims_ask_for_dependencies_in_one_statement_whatever_their_number(alice: User) -> None:
    leader = lead(max_workers=20)
    submit(alice, *[job(f"j{n}", f"b{n}") for n in range(10)])
    with CaptureQueriesContext(connection) as captured:
        leader.look()
    leader.look()
    asked = [query["sql"] for query in captured if "d.needs_id FROM v" in query["sql"]]
    assert len(asked) == 1

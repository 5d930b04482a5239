"""What the web process writes: submission, cancel, retry; and who waits for a slot since when."""

from __future__ import annotations

from datetime import datetime

import pytest

from scheduling.models import Event, Job, User, Workflow
from scheduling.services.workflows import job_cancel, job_retry, workflow_cancel, workflow_retry
from tests.integration.working import F, Leader, is_active, job_of, lead, new_user, states, status, submit, waits

pytestmark = pytest.mark.django_db


def since(user: User) -> datetime | None:
    """Since when the user waits."""
    return User.objects.get(pk=user.pk).waiting_since


@pytest.fixture
def leader() -> Leader:
    """A scheduler of one user at a time."""
    return lead(max_active_users=1)


def test_jobs_keep_the_order_of_submission_and_share_lanes_by_branch() -> None:
    workflow = submit(new_user(), "j2 b1", "j1 b2", "j3 b1")
    rows = list(Job.objects.order_by("id").values_list("job_id", "lane"))
    assert rows == [("j2", f"w{workflow.pk}/b1"), ("j1", f"w{workflow.pk}/b2"), ("j3", f"w{workflow.pk}/b1")]
    event, *of_jobs, queued = Event.objects.order_by("id")
    how = {"branch_scope": "workflow", "on_failure": "continue"}
    assert (event.type, event.actor, event.data) == ("workflow.submitted", "alice", {"jobs": 3, "branches": 2, **how})
    assert [(told.type, told.data["job_id"], told.data["lane"]) for told in of_jobs] == [("job.submitted", *row) for row in rows]
    assert queued.type == "user.waiting"


def test_a_branch_of_the_user_is_one_lane_over_workflows_and_never_over_users(leader: Leader) -> None:
    alice, bob = new_user("alice"), new_user("bob")
    first, second = (submit(alice, "j1 b1", branch_scope="user") for _ in range(2))
    other = submit(bob, "j1 b1", branch_scope="user")
    leader.max_active_users = 2
    leader.settle()
    assert (states(first), states(second), states(other)) == ({"j1": "RUNNING"}, {"j1": "PENDING"}, {"j1": "RUNNING"})
    leader.end(first)
    assert states(second) == {"j1": "RUNNING"}


def test_the_same_branch_of_two_workflows_runs_side_by_side(leader: Leader) -> None:
    alice = new_user()
    flows = [submit(alice, "j1 b1", "j2 b1") for _ in range(2)]
    leader.settle()
    assert [states(flow) for flow in flows] == [{"j1": "RUNNING", "j2": "PENDING"}] * 2


# -- who waits since when


def test_the_first_submission_begins_the_wait_and_later_ones_do_not_move_it() -> None:
    alice = new_user()
    submit(alice)
    first = since(alice)
    assert first is not None
    submit(alice)
    assert since(alice) == first


def test_cancels_and_retries_of_part_of_the_work_do_not_move_the_wait() -> None:
    alice = new_user()
    workflow = submit(alice, "j1", "j2", "j3")
    first = since(alice)
    job_cancel(job=job_of(workflow, "j1"), actor="alice")
    job_retry(job=job_of(workflow, "j1"), actor="alice")
    job_cancel(job=job_of(workflow, "j3"), actor="alice")
    assert since(alice) == first


def test_the_wait_ends_when_nothing_is_unfinished_and_begins_anew_with_new_work() -> None:
    alice = new_user()
    workflow = submit(alice)
    first = since(alice)
    workflow_cancel(workflow=workflow, actor="alice")
    assert since(alice) is None
    workflow_retry(workflow=workflow, actor="alice")
    again = since(alice)
    assert first is not None
    assert again is not None
    assert again > first


def test_an_active_user_does_not_wait_whatever_is_submitted(leader: Leader) -> None:
    alice = new_user()
    submit(alice)
    leader.settle()
    submit(alice)
    assert is_active(alice)
    assert not waits(alice)


def test_users_are_admitted_in_the_order_in_which_their_wait_began(leader: Leader) -> None:
    users = [new_user(name) for name in ("alice", "bob", "carol", "dave")]
    flows = [submit(user) for user in reversed(users)]
    submit(users[0])
    order = []
    for flow in flows:
        leader.settle()
        order.append(next(user.username for user in users if is_active(user)))
        for running in Job.objects.filter(state="RUNNING").select_related("workflow"):
            leader.end(running.workflow)
        assert not Job.objects.filter(workflow=flow, state="PENDING").exists()
    assert order == ["dave", "carol", "bob", "alice"]


def test_who_cancels_everything_while_active_gives_the_slot_up_in_the_next_pass(leader: Leader) -> None:
    alice, bob = new_user("alice"), new_user("bob")
    flow, other = submit(alice), submit(bob)
    leader.settle()
    running = states(flow)
    workflow_cancel(workflow=flow, actor="alice")
    assert running == {"j1": "RUNNING"}
    assert leader.look().cancel == {job_of(flow).pk}
    leader.end(flow, state="CANCELLED")
    leader.settle()
    assert (is_active(alice), is_active(bob), states(other)) == (False, True, {"j1": "RUNNING"})


# -- cancel


def test_a_cancel_ends_waiting_jobs_at_once_and_asks_running_ones(leader: Leader) -> None:
    workflow = submit(new_user(), "j1", "j2", "j3 b2")
    leader.settle()
    workflow_cancel(workflow=workflow, actor="bob")
    assert states(workflow) == {"j1": "RUNNING", "j2": "CANCELLED", "j3": "RUNNING"}
    assert (job_of(workflow, "j1").cancel_requested, job_of(workflow, "j2").error) == (True, "cancelled by bob")
    assert status(workflow) == "RUNNING"


def test_a_workflow_cancelled_before_it_began_is_over_at_once() -> None:
    workflow = submit(new_user(), "j1", "j2")
    workflow_cancel(workflow=workflow, actor="alice")
    workflow.refresh_from_db()
    assert (workflow.status, workflow.started_at is None, workflow.finished_at is None) == ("CANCELLED", True, False)
    kinds = [event.type for event in Event.objects.order_by("id")][-4:]
    assert kinds == ["job.finished", "job.finished", "workflow.finished", "user.left_queue"]


def test_a_finish_that_was_faster_than_the_cancel_stands(leader: Leader) -> None:
    workflow = submit(new_user())
    leader.settle()
    workflow_cancel(workflow=workflow, actor="alice")
    leader.end(workflow)
    assert (states(workflow), status(workflow)) == ({"j1": "SUCCEEDED"}, "SUCCEEDED")


# -- retry


def test_a_retry_keeps_place_tiles_and_results_of_others_and_counts_the_attempt(leader: Leader) -> None:
    workflow = submit(new_user(), "j1", "j2", "j3")
    leader.settle()
    leader.end(workflow, "j1", F, tiles_processed=7, error="Tile 7: boom", traceback="Traceback")
    leader.end(workflow, "j2")
    leader.end(workflow, "j3", F)
    assert status(workflow) == "FAILED"
    before = job_of(workflow, "j1")
    workflow_retry(workflow=workflow, actor="alice")
    job = job_of(workflow, "j1")
    assert (job.pk, job.state, job.attempt, job.tiles_processed) == (before.pk, "PENDING", 2, 7)
    assert (job.error, job.traceback, job.started_at, job.finished_at, job.cancel_requested) == ("", "", None, None, False)
    assert states(workflow) == {"j1": "PENDING", "j2": "SUCCEEDED", "j3": "PENDING"}
    workflow.refresh_from_db()
    assert (workflow.status, workflow.finished_at) == ("RUNNING", None)
    leader.settle()
    assert states(workflow) == {"j1": "RUNNING", "j2": "SUCCEEDED", "j3": "PENDING"}


def test_a_retried_job_waits_for_the_later_one_that_runs_in_its_lane(leader: Leader) -> None:
    workflow = submit(new_user(), "j1", "j2", "j3")
    leader.settle()
    leader.end(workflow, "j1", F)
    job_retry(job=job_of(workflow, "j1"), actor="alice")
    leader.settle()
    assert states(workflow) == {"j1": "PENDING", "j2": "RUNNING", "j3": "PENDING"}
    leader.end(workflow, "j2")
    assert states(workflow) == {"j1": "RUNNING", "j2": "SUCCEEDED", "j3": "PENDING"}


def test_a_retry_clears_an_earlier_wish_to_cancel(leader: Leader) -> None:
    workflow = submit(new_user())
    leader.settle()
    job_cancel(job=job_of(workflow), actor="alice")
    leader.end(workflow, state="CANCELLED")
    job_retry(job=job_of(workflow), actor="alice")
    leader.settle()
    assert leader.look().cancel == frozenset()
    assert states(workflow) == {"j1": "RUNNING"}


def test_a_retried_job_must_look_for_its_finished_tiles_and_a_new_one_need_not(leader: Leader) -> None:
    workflow = submit(new_user())
    leader.settle()
    assert [claimed.tiles_total for claimed in leader.held.values()] == [20]
    leader.end(workflow, state=F, tiles_processed=5)
    workflow_retry(workflow=workflow, actor="alice")
    leader.settle()
    (claimed,) = leader.held.values()
    assert (claimed.tiles_total, claimed.tiles_processed, claimed.attempt) == (None, 5, 2)


def test_a_workflow_cancelled_before_it_began_and_retried_has_not_begun() -> None:
    workflow = submit(new_user())
    workflow_cancel(workflow=workflow, actor="alice")
    workflow_retry(workflow=workflow, actor="alice")
    assert Workflow.objects.get().status == "ACCEPTED"

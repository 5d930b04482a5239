"""Pause, tenure and preemption as rows: what is taken back keeps its tiles, its attempt and its place."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from scheduling.errors import Conflict
from scheduling.models import Event, Job, User, UserSlot
from scheduling.selectors.workflows import workflow_body
from scheduling.services.workflows import job_cancel, workflow_cancel, workflow_pause, workflow_resume
from scheduling.states import JobState
from tests.integration.working import assert_nobody_is_forgotten, is_active, job_of, lead, new_user, states, submit, waits

pytestmark = pytest.mark.django_db
P, R = JobState.PENDING, JobState.RUNNING


@pytest.fixture
def alice() -> User:
    return new_user()


def test_a_paused_workflow_gives_its_jobs_and_the_slot_back_and_a_resumed_one_goes_on(alice: User) -> None:
    leader = lead()
    workflow = submit(alice, "j1", "j2")
    leader.settle()
    workflow_pause(workflow=workflow, actor="alice")
    (asked,) = leader.look().preempt
    assert asked.job == job_of(workflow).pk
    leader.look(leader.ending(workflow, state=P, tiles_processed=7, reason=asked.reason))
    leader.settle()
    job = job_of(workflow)
    assert (job.state, job.attempt, job.tiles_processed, job.finished_at) == (JobState.PENDING, 1, 7, None)
    assert not is_active(alice) and not waits(alice), "a user whose work is all paused neither holds a slot nor waits for one"
    body = workflow_body(type(workflow).objects.get(pk=workflow.pk))
    assert (body["status"], body["paused"]) == ("RUNNING", True)
    assert {entry["waiting_reason"] for entry in body["jobs"]} == {"paused"}
    assert Event.objects.get(type="job.taken_back").reason == "its workflow is paused"
    workflow_resume(workflow=workflow, actor="alice")
    assert waits(alice)
    leader.settle()
    assert states(workflow) == {"j1": R, "j2": P}
    assert_nobody_is_forgotten()


def test_other_workflows_of_the_user_go_on_while_one_is_paused(alice: User) -> None:
    leader = lead()
    paused, other = submit(alice, "j1"), submit(alice, "j1")
    workflow_pause(workflow=paused, actor="alice")
    leader.settle()
    assert (states(paused), states(other)) == ({"j1": P}, {"j1": R})


def test_a_finished_workflow_is_not_paused(alice: User) -> None:
    workflow = submit(alice, "j1")
    workflow_cancel(workflow=workflow, actor="alice")
    with pytest.raises(Conflict):
        workflow_pause(workflow=workflow, actor="alice")


def test_a_job_cancelled_while_it_is_taken_back_ends_cancelled(alice: User) -> None:
    leader = lead()
    workflow = submit(alice, "j1")
    leader.settle()
    workflow_pause(workflow=workflow, actor="alice")
    leader.look()
    job_cancel(job=job_of(workflow), actor="alice")
    leader.look(leader.ending(workflow, state=P, tiles_processed=3))
    job = job_of(workflow)
    assert (job.state, job.tiles_processed) == (JobState.CANCELLED, 3)
    assert job.finished_at is not None


def test_a_user_whose_time_is_over_queues_again_behind_the_one_who_waited(alice: User) -> None:
    bob = new_user("bob")
    leader = lead(max_active_users=1, slot_max_s=60)
    first, second = submit(alice, "j1"), submit(bob, "j1")
    leader.settle()
    assert (is_active(alice), waits(bob)) == (True, True)
    UserSlot.objects.filter(user=alice).update(since=timezone.now() - timedelta(seconds=61))
    (asked,) = leader.look().preempt
    assert asked.job == job_of(first).pk
    leader.look(leader.ending(first, state=P, tiles_processed=5, reason=asked.reason))
    leader.settle()
    assert (is_active(bob), waits(alice)) == (True, True)
    assert (states(first), states(second)) == ({"j1": P}, {"j1": R})
    assert job_of(first).tiles_processed == 5
    leader.end(second)
    leader.settle()
    assert is_active(alice)
    assert states(first) == {"j1": R}
    assert_nobody_is_forgotten()


def test_a_job_taken_back_and_started_again_in_one_pass_goes_on() -> None:
    leader, workflow = lead(), submit(new_user(), "j1")
    leader.look()
    found = leader.end(workflow, "j1", JobState.PENDING, tiles_processed=3)
    assert [claimed.job for claimed in found.claimed] == [job_of(workflow).pk]
    assert found.cancel == frozenset()


def test_a_preempted_job_waits_as_the_head_of_its_lane(alice: User) -> None:
    bob = new_user("bob")
    leader = lead(max_workers=2, max_active_users=2)
    workflow = submit(alice, "j1", "j2")
    Job.objects.filter(workflow=workflow, job_id="j2").update(lane="another")
    leader.settle()
    assert states(workflow) == {"j1": R, "j2": R}
    theirs = submit(bob, "j1")
    (asked,) = leader.look().preempt
    assert asked.job == job_of(workflow, "j2").pk, "the youngest goes"
    leader.look(leader.ending(workflow, "j2", state=P, tiles_processed=1, reason=asked.reason))
    leader.settle()
    assert (states(workflow), states(theirs)) == ({"j1": R, "j2": P}, {"j1": R})

"""Two connections at once: whatever the order in which they win, nobody and nothing is forgotten or done twice."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from scheduling.engine.entry import End
from scheduling.errors import Conflict, NotFound
from scheduling.models import Event, Job, User, Workflow
from scheduling.services.workflows import workflow_cancel, workflow_delete, workflow_retry
from scheduling.states import FINISHED_WORKFLOW, JobState, workflow_status
from tests.integration.working import (
    assert_nobody_is_forgotten,
    at_once,
    is_active,
    job_of,
    lead,
    new_user,
    refuse_exceptions,
    states,
    status,
    submit,
)

pytestmark = pytest.mark.django_db(transaction=True)
ROUNDS = range(5)


@pytest.mark.parametrize("_", ROUNDS)
def test_a_cancel_and_a_claim_at_once_leave_the_job_cancelled_or_asked_to_end(_: int) -> None:
    leader = lead()
    alice = new_user()
    workflow = submit(alice)
    refuse_exceptions(at_once(leader.look, lambda: workflow_cancel(workflow=workflow, actor="alice")))
    job = job_of(workflow)
    assert (job.state, job.cancel_requested) in {("CANCELLED", False), ("RUNNING", True)}
    started = Event.objects.filter(type="job.started").count()
    assert started == (job.state == "RUNNING")
    leader.settle()
    assert_nobody_is_forgotten()


@pytest.mark.parametrize("_", ROUNDS)
def test_a_submission_while_the_slot_is_given_up_leaves_nobody_forgotten(_: int) -> None:
    leader = lead(max_active_users=1)
    alice, bob = new_user("alice"), new_user("bob")
    first = submit(alice)
    leader.settle()
    submit(bob)
    end = leader.ending(first)
    refuse_exceptions(at_once(lambda: leader.look(end), lambda: submit(alice), lambda: submit(bob)))
    assert_nobody_is_forgotten()
    leader.settle()
    assert_nobody_is_forgotten()
    assert is_active(alice) + is_active(bob) == 1


@pytest.mark.parametrize("_", ROUNDS)
def test_a_cancel_of_the_last_waiting_work_and_an_admission_at_once_leave_nobody_forgotten(_: int) -> None:
    leader = lead(max_active_users=2)
    alice, bob = new_user("alice"), new_user("bob")
    workflow = submit(alice)
    submit(bob)
    refuse_exceptions(at_once(lambda: workflow_cancel(workflow=workflow, actor="alice"), leader.look, lambda: submit(bob)))
    assert_nobody_is_forgotten()


@pytest.mark.parametrize("_", ROUNDS)
def test_an_end_written_twice_at_once_counts_once(_: int) -> None:
    leader = lead()
    workflow = submit(new_user(), "j1", "j2")
    leader.look()
    end = leader.ending(workflow)
    results = at_once(lambda: leader.look(end), lambda: leader.look(end))
    refuse_exceptions(results)
    assert sorted(len(result.ended) for result in results) == [0, 1]
    assert states(workflow) == {"j1": "SUCCEEDED", "j2": "RUNNING"}
    assert Event.objects.filter(type="job.finished").count() == 1
    assert Event.objects.filter(type="job.started").count() == 2


@pytest.mark.parametrize("_", ROUNDS)
def test_an_end_and_a_cancel_at_once_agree_on_how_the_workflow_ended(_: int) -> None:
    leader = lead()
    workflow = submit(new_user(), "j1", "j2")
    leader.look()
    end = leader.ending(workflow)
    refuse_exceptions(at_once(lambda: leader.look(end), lambda: workflow_cancel(workflow=workflow, actor="alice")), Conflict)
    assert states(workflow)["j1"] == "SUCCEEDED"
    if states(workflow)["j2"] == "RUNNING":
        assert job_of(workflow, "j2").cancel_requested
    else:
        assert (states(workflow)["j2"], status(workflow)) == ("CANCELLED", "CANCELLED")


def test_two_retries_at_once_count_one_attempt() -> None:
    leader = lead()
    workflow = submit(new_user())
    leader.look()
    leader.end(workflow, state=JobState.FAILED)
    results = at_once(*[lambda: workflow_retry(workflow=workflow, actor="alice")] * 2)
    refuse_exceptions(results, Conflict)
    assert sum(isinstance(result, Conflict) for result in results) == 1
    assert job_of(workflow).attempt == 2


def test_a_delete_and_a_retry_at_once_never_delete_unfinished_work() -> None:
    workflow = submit(new_user())
    workflow_cancel(workflow=workflow, actor="alice")
    results = at_once(
        lambda: workflow_delete(workflow=workflow, actor="alice"),
        lambda: workflow_retry(workflow=workflow, actor="alice"),
    )
    refuse_exceptions(results, Conflict, NotFound)
    assert sum(isinstance(result, Exception) for result in results) == 1
    assert_nobody_is_forgotten()


def test_many_writers_and_a_leader_at_once_end_in_a_house_in_order() -> None:
    leader = lead(max_workers=3, max_active_users=2)
    users = [new_user(f"user{n}") for n in range(4)]
    refuse_exceptions(at_once(*[_restless(user, seed) for seed, user in enumerate(users)], lambda: _tireless(leader)), Conflict)
    assert_nobody_is_forgotten()
    while Job.objects.filter(state__in=["PENDING", "RUNNING"]).exists():
        leader.look(*_ends(random.Random(1)))
    leader.settle()
    assert not any(is_active(user) for user in users)
    for workflow in Workflow.objects.all():
        counts = {JobState(state): list(states(workflow).values()).count(state) for state in states(workflow).values()}
        assert workflow.status == workflow_status(counts, has_started=True)
        assert workflow.status in FINISHED_WORKFLOW
        assert workflow.finished_at is not None
    starts = Event.objects.filter(type="job.started").values_list("job_uuid", "data__attempt")
    assert len(starts) == len(set(starts)), "a job was started twice in one attempt"


def _restless(user: User, seed: int) -> Callable[[], None]:
    """A user who submits, cancels and retries."""
    draw = random.Random(seed)

    def act() -> None:
        for _ in range(8):
            workflow = submit(user, "j1 a", "j2 a", "j3 b")
            for change in draw.sample([workflow_cancel, workflow_retry, workflow_cancel], 2):
                try:
                    change(workflow=workflow, actor=user.username)
                except Conflict:
                    continue

    return act


def _tireless(leader: object) -> None:
    """A leader who ends whatever runs."""
    draw = random.Random(7)
    for _ in range(25):
        leader.look(*_ends(draw))  # type: ignore[attr-defined]


def _ends(draw: random.Random) -> list[End]:
    running = Job.objects.filter(state="RUNNING")
    return [
        End(
            job=job.pk,
            epoch=job.epoch,
            state=JobState.CANCELLED if job.cancel_requested else draw.choice([JobState.SUCCEEDED, JobState.FAILED]),
            tiles_processed=job.tiles_processed,
            tiles_total=job.tiles_total,
        )
        for job in running
        if draw.random() < 0.7
    ]

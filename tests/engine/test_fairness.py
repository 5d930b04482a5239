"""Places and slots taken back from real workers: the next user starts at once, and nobody loses a tile or an attempt."""

from __future__ import annotations

import pytest

from scheduling.models import Event, Job, User, Workflow
from scheduling.services.workflows import workflow_pause, workflow_resume
from scheduling.states import JobState
from tests.engine.harness import Engine, is_running, states, submit

pytestmark = pytest.mark.engine

SUCCEEDED = {JobState.SUCCEEDED}


@pytest.fixture
def bob(transactional_db: None) -> User:
    return User.objects.create(username="bob")


def computed(engine: Engine, workflow: Workflow) -> int:
    """Tiles of the workflow that workers reported, counting repetitions."""
    jobs = {str(uuid) for uuid in Job.objects.filter(workflow=workflow).values_list("uuid", flat=True)}
    return sum(len(outcome["done"]) for outcome in engine.inbox.delivered if outcome["job"] in jobs)  # type: ignore[arg-type,misc]


def test_a_second_user_takes_a_place_from_one_who_has_two(engine: Engine, alice: User, bob: User) -> None:
    engine.lead(max_workers=2)
    greedy = submit(alice, ("a", "a"), ("b", "b"), tiles=60, seconds_per_tile=0.05)
    engine.run_until(lambda: list(states(greedy).values()) == ["RUNNING", "RUNNING"] and is_running(greedy, 4), "two running jobs")
    small = submit(bob, ("j", "j"), tiles=4, seconds_per_tile=0.05)
    engine.finish(small)
    assert states(small) == {"j": JobState.SUCCEEDED}
    assert JobState.SUCCEEDED not in states(greedy).values(), "the second user had to wait for the end of a job"
    engine.finish(greedy)
    assert set(states(greedy).values()) == SUCCEEDED
    assert {job.attempt for job in Job.objects.filter(workflow=greedy)} == {1}
    assert computed(engine, greedy) == 120, "finished tiles were computed again"
    assert Event.objects.filter(type="job.taken_back").count() == 1, "places went to and fro"


def test_a_user_whose_time_is_over_makes_room_and_comes_back(engine: Engine, alice: User, bob: User) -> None:
    engine.lead(max_concurrent_users=1, slot_max_s=0.5)
    long = submit(alice, ("j", "b"), tiles=100, seconds_per_tile=0.05)
    engine.run_until(lambda: is_running(long), "a tile")
    small = submit(bob, ("j", "b"), tiles=2, seconds_per_tile=0.05)
    engine.finish(small)
    assert states(long) != {"j": JobState.SUCCEEDED}
    engine.finish(long)
    moves = Event.objects.filter(type__in=["user.admitted", "user.requeued"]).order_by("id").values_list("type", "user_id")
    assert list(moves[:3]) == [("user.admitted", alice.pk), ("user.requeued", alice.pk), ("user.admitted", bob.pk)]
    assert Job.objects.get(workflow=long).attempt == 1


def test_a_paused_workflow_stands_still_and_goes_on_where_it_was(engine: Engine, alice: User) -> None:
    workflow = submit(alice, ("j", "b"), tiles=80, seconds_per_tile=0.05)
    engine.run_until(lambda: is_running(workflow, 4), "four tiles")
    workflow_pause(workflow=workflow, actor="alice")
    engine.run_until(lambda: states(workflow) == {"j": JobState.PENDING}, "the pause")
    kept = Job.objects.get(workflow=workflow).tiles_processed
    assert 4 <= kept < 80
    engine.inbox.delivered.clear()
    workflow_resume(workflow=workflow, actor="alice")
    engine.finish(workflow)
    assert set(states(workflow).values()) == SUCCEEDED
    assert computed(engine, workflow) <= 80 - kept

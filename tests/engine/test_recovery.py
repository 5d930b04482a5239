"""Whatever dies, every job is carried on: scheduler, Redis, worker, a worker's child. No finished tile is lost."""

from __future__ import annotations

import pytest

from scheduling.models import Event, Job, User, Workflow
from scheduling.states import JobState
from tests.engine.harness import Engine, Worker, is_running, states, submit
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.engine

#: Of each job: enough that the database hears of some before the job has ended.
TILES = 40


def run_some(engine: Engine, user: User, count: int = 3) -> list[Workflow]:
    """Workflows of two jobs in order, in the middle of their work."""
    workflows = [submit(user, ("j1", "b"), ("j2", "b"), tiles=TILES, seconds_per_tile=0.05) for _ in range(count)]
    engine.run_until(lambda: is_running(workflows[0], 3), "three tiles")
    return workflows


def assert_all_done_once_and_in_order(workflows: list[Workflow]) -> None:
    for workflow in workflows:
        first, second = Job.objects.filter(workflow=workflow).order_by("id")
        assert set(states(workflow).values()) == {JobState.SUCCEEDED}
        assert first.finished_at is not None and second.started_at is not None
        assert first.finished_at <= second.started_at
        assert first.tiles_processed == first.tiles_total == TILES
    ends = list(Event.objects.filter(type="job.finished").values_list("job_uuid", flat=True))
    assert len(ends) == len(set(ends)) == 2 * len(workflows), "a job ended twice"


def test_a_new_leader_carries_on_and_the_old_one_changes_nothing(engine: Engine, alice: User) -> None:
    workflows = run_some(engine, alice)
    deposed = engine.loop
    before = Job.objects.filter(workflow=workflows[0]).order_by("id")[0]
    engine.lead()
    after = Job.objects.get(pk=before.pk)
    assert after.state == JobState.RUNNING and after.attempt == 1
    assert after.epoch > before.epoch and after.term > before.term
    with pytest.raises(Exception, match="has ended"):
        for _ in range(100):
            deposed.run_once(0.05)
    engine.finish(*workflows)
    assert_all_done_once_and_in_order(workflows)


def test_finished_tiles_are_not_computed_again_after_a_new_leader(engine: Engine, alice: User) -> None:
    workflow = submit(alice, ("j", "b"), tiles=120, seconds_per_tile=0.05)
    engine.run_until(lambda: is_running(workflow, 20), "twenty tiles")
    shown = Job.objects.get(workflow=workflow).tiles_processed
    engine.lead()
    engine.finish(workflow)
    again = sum(len(outcome["done"]) for outcome in engine.inbox.delivered)  # type: ignore[arg-type,misc]
    assert again <= 120 - shown


def test_redis_restarted_empty_loses_nothing(engine: Engine, alice: User, redis_server: RedisServer) -> None:
    workflows = run_some(engine, alice)
    redis_server.restart()
    engine.finish(*workflows)
    assert_all_done_once_and_in_order(workflows)


def test_redis_restarted_twice_in_a_row_loses_nothing(engine: Engine, alice: User, redis_server: RedisServer) -> None:
    workflows = run_some(engine, alice)
    redis_server.restart()
    before = Job.objects.filter(workflow=workflows[0]).order_by("id")[0].tiles_processed
    engine.run_until(lambda: Job.objects.filter(workflow=workflows[0], tiles_processed__gt=before).exists(), "work after the first restart")
    redis_server.restart()
    engine.finish(*workflows)
    assert_all_done_once_and_in_order(workflows)


def test_a_killed_worker_is_replaced_and_its_bundles_run_again(engine: Engine, alice: User, worker: Worker) -> None:
    workflows = run_some(engine, alice)
    worker.kill()
    worker.start()
    engine.finish(*workflows)
    assert_all_done_once_and_in_order(workflows)


def test_a_killed_child_costs_no_job(engine: Engine, alice: User, worker: Worker) -> None:
    workflows = run_some(engine, alice)
    for child in worker.children()[:2]:
        child.kill()
    engine.finish(*workflows)
    assert_all_done_once_and_in_order(workflows)


def test_a_late_and_a_doubled_outcome_change_nothing(engine: Engine, alice: User) -> None:
    workflow = submit(alice, ("j1", "b"), ("j2", "b"), tiles=12, seconds_per_tile=0.02)
    engine.finish(workflow)
    before = list(Job.objects.filter(workflow=workflow).order_by("id").values())
    for outcome in list(engine.inbox.delivered):
        engine.inbox.push(engine.lease.term, outcome)
        engine.inbox.push(engine.lease.term, outcome)
    replayed = 2 * len(engine.inbox.delivered)
    engine.run_until(lambda: engine.inbox.counters().get("stale_outcomes", 0) >= replayed, "the count of stale outcomes")
    assert list(Job.objects.filter(workflow=workflow).order_by("id").values()) == before

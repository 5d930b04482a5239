"""The real loop with a real Celery worker and a real Redis: work gets done, in order, by all processes."""

from __future__ import annotations

import json

import pytest
from django.conf import settings

from scheduling.models import Event, Job, User, UserSlot
from scheduling.services.workflows import JobRequest, WorkflowRequest, job_cancel, workflow_cancel, workflow_retry, workflow_submit
from scheduling.states import JobState
from tests.engine.harness import Engine, is_running, states, submit

pytestmark = pytest.mark.engine


def test_a_branch_runs_in_order_and_its_jobs_leave_their_artifacts(engine: Engine, alice: User) -> None:
    workflow = submit(alice, ("j1", "b"), ("j2", "b"), tiles=6, seconds_per_tile=0.01)
    engine.finish(workflow)
    first, second = Job.objects.filter(workflow=workflow).order_by("id")
    assert (first.state, second.state) == (JobState.SUCCEEDED, JobState.SUCCEEDED)
    assert first.finished_at is not None and second.started_at is not None
    assert first.finished_at <= second.started_at
    cells = json.loads((settings.DATA_DIR / "results" / str(first.uuid) / "results.json").read_text())
    assert [cell["id"] for cell in cells] == [1, 2]
    assert not (settings.DATA_DIR / "tiles" / first.digest).exists(), "the tiles of a finished job were kept"


def test_branches_overlap_and_no_more_jobs_run_than_workers_are_allowed(engine: Engine, alice: User) -> None:
    engine.lead(max_workers=2)
    workflow = submit(alice, ("a", "a"), ("b", "b"), ("c", "c"), tiles=8, seconds_per_tile=0.03)
    most = 0

    def ended() -> bool:
        nonlocal most
        most = max(most, list(states(workflow).values()).count(JobState.RUNNING))
        return set(states(workflow).values()) == {JobState.SUCCEEDED}

    engine.run_until(ended, "the end of three branches")
    assert most == 2


def test_one_job_alone_uses_every_process_of_the_worker(engine: Engine, alice: User, worker: object) -> None:
    workflow = submit(alice, ("j", "b"), tiles=24, seconds_per_tile=0.1)
    engine.finish(workflow)
    processes = {outcome["worker"] for outcome in engine.inbox.delivered if outcome["done"]}
    assert len(processes) == 4, processes


def test_a_tile_that_raises_is_tried_three_times_then_fails_its_job_and_the_branch_goes_on(engine: Engine, alice: User) -> None:
    jobs = (
        JobRequest(job_id="bad", branch="b", job_type="TISSUE_MASK", parameters={"tiles": 5, "seconds_per_tile": 0, "fail_at_tile": 3}),
        JobRequest(job_id="next", branch="b", job_type="TISSUE_MASK", parameters={"tiles": 2, "seconds_per_tile": 0}),
    )
    workflow = workflow_submit(user=alice, request=WorkflowRequest(jobs=jobs))
    engine.finish(workflow)
    bad = Job.objects.get(workflow=workflow, job_id="bad")
    assert bad.state == JobState.FAILED
    assert bad.error.startswith("Tile 3: ") and "tried 3 times" in bad.error
    assert bad.tiles_processed == 4
    assert states(workflow)["next"] == JobState.SUCCEEDED


def test_a_cancelled_running_job_ends_and_a_retry_keeps_its_tiles(engine: Engine, alice: User) -> None:
    workflow = submit(alice, ("j1", "b"), ("j2", "b"), tiles=160, seconds_per_tile=0.05)
    engine.run_until(lambda: is_running(workflow, 8), "eight tiles")
    workflow_cancel(workflow=workflow, actor="alice")
    assert states(workflow)["j2"] == JobState.CANCELLED, "a waiting job is cancelled at once"
    engine.finish(workflow)
    cancelled = Job.objects.get(workflow=workflow, job_id="j1")
    assert cancelled.state == JobState.CANCELLED
    kept = cancelled.tiles_processed
    assert 8 <= kept < 160
    engine.inbox.delivered.clear()
    workflow_retry(workflow=workflow, actor="alice")
    engine.finish(workflow)
    done = Job.objects.get(workflow=workflow, job_id="j1")
    assert (done.state, done.attempt, done.tiles_processed) == (JobState.SUCCEEDED, 2, 160)
    again = sum(len(outcome["done"]) for outcome in engine.inbox.delivered if outcome["job"] == str(done.uuid))  # type: ignore[arg-type,misc]
    assert again <= 160 - kept, "finished tiles were computed again"


def test_a_cancelled_head_lets_the_next_job_of_its_branch_start(engine: Engine, alice: User) -> None:
    workflow = submit(alice, ("j1", "b"), ("j2", "b"), tiles=80, seconds_per_tile=0.02)
    engine.run_until(lambda: is_running(workflow), "the first tile")
    job_cancel(job=Job.objects.get(workflow=workflow, job_id="j1"), actor="alice")
    engine.finish(workflow)
    assert states(workflow) == {"j1": JobState.CANCELLED, "j2": JobState.SUCCEEDED}


def test_a_fourth_user_enters_when_one_has_finished_all_jobs(engine: Engine) -> None:
    users = [User.objects.create(username=f"u{i}") for i in range(4)]
    workflows = [submit(user, ("a", "x"), ("b", "x"), tiles=4, seconds_per_tile=0.02) for user in users]
    most = 0

    def ended() -> bool:
        nonlocal most
        most = max(most, UserSlot.objects.count())
        return all(set(states(workflow).values()) == {JobState.SUCCEEDED} for workflow in workflows)

    engine.run_until(ended, "the end of four users' work")
    assert most == 3
    log = list(Event.objects.filter(type__in=["user.admitted", "user.released"]).order_by("id").values_list("type", "user_id"))
    fourth = log.index(("user.admitted", users[3].pk))
    assert any(kind == "user.released" for kind, _ in log[:fourth]), "the fourth was admitted before a slot was free"

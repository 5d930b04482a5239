"""The loop from submission to artifacts, with the real store, the real inbox and bundles carried out in this process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from scheduling.jobtypes.simulated import ORIGINAL_CELLS
from scheduling.leader.pool import PoolUnavailable
from scheduling.models import Event, Job, VirtualTime
from scheduling.protocol.presence import Heartbeat
from scheduling.services.workflows import JobRequest, workflow_cancel, workflow_retry
from scheduling.store.lease import Deposed
from scheduling.store.users import expected_queues
from tests.integration.store.house import House
from tests.integration.working import job_of, new_user, states, status, submit
from tests.support.inline_pool import InlinePool
from tests.support.redis_server import RedisServer

# The loop closes connections that are old, as a process of its own does.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that may be killed."""
    server = RedisServer(tmp_path / "r.sock")
    server.start()
    yield server
    server.stop()


def story(*types: str) -> list[tuple[str, str]]:
    """Events of these types in order, with the job they tell of."""
    return [(event.type, event.data.get("job_id", "")) for event in Event.objects.filter(type__in=types).order_by("id")]


def test_a_workflow_goes_from_submission_to_artifacts_in_the_order_of_its_branches(house: House) -> None:
    workflow = submit(
        new_user(),
        "j1 b1",
        JobRequest(job_id="j2", branch="b1", job_type="TISSUE_MASK"),
        JobRequest(job_id="k1", branch="b2", job_type="INSTANSEG_WSI"),
    )
    house.finish()
    assert status(workflow) == "SUCCEEDED"
    assert house.results(workflow) == house.results(workflow, "k1") == ORIGINAL_CELLS
    assert [(job.tiles_processed, job.tiles_total) for job in workflow.jobs.order_by("id")] == [(20, 20), (30, 30), (60, 60)]
    assert [artifact["name"] for artifact in job_of(workflow).artifacts] == ["results.json"]
    assert job_of(workflow, "j2").artifacts == []
    told = [event for event in story("job.started", "job.finished") if event[1] != "k1"]
    assert told == [("job.started", "j1"), ("job.finished", "j1"), ("job.started", "j2"), ("job.finished", "j2")]
    assert list((house.data_dir / "tiles").iterdir()) == []


def test_two_branches_overlap_and_every_tile_is_sent_once(house: House) -> None:
    submit(new_user(), "j1 b1", "k1 b2")
    house.finish()
    tiles = [(bundle.spec.id, tile) for bundle in house.pool.sent for tile in bundle.tiles]
    assert len(tiles) == len(set(tiles)) == 40
    jobs = [bundle.spec.id for bundle in house.pool.sent]
    assert jobs != sorted(jobs, key=jobs.index)


def test_a_tile_that_fails_fails_its_job_with_its_index_and_a_retry_keeps_the_others(house: House) -> None:
    workflow = submit(new_user(), JobRequest(job_id="j1", branch="b1", job_type="SEGMENT_CELLS", parameters={"fail_at_tile": 5}), "j2")
    house.finish()
    assert (states(workflow), status(workflow)) == ({"j1": "FAILED", "j2": "SUCCEEDED"}, "FAILED")
    job = job_of(workflow)
    assert job.error == "Tile 5: failed as its parameter fail_at_tile asks (tried 3 times)"
    assert "Traceback" in job.traceback
    Job.objects.filter(pk=job.pk).update(parameters={})
    finished = job.tiles_processed
    house.pool.sent.clear()
    workflow_retry(workflow=workflow, actor="alice")
    house.finish()
    assert (states(workflow), status(workflow)) == ({"j1": "SUCCEEDED", "j2": "SUCCEEDED"}, "SUCCEEDED")
    assert finished >= 5


def test_a_retry_computes_only_what_is_missing(house: House) -> None:
    workflow = submit(new_user(), JobRequest(job_id="j1", branch="b1", job_type="SEGMENT_CELLS", parameters={"tiles": 100}))
    house.step(3)
    done = {tile for bundle in house.pool.sent for tile in bundle.tiles}
    workflow_cancel(workflow=workflow, actor="alice")
    house.finish()
    assert states(workflow) == {"j1": "CANCELLED"}
    assert 0 < job_of(workflow).tiles_processed < 100
    done |= {tile for bundle in house.pool.sent for tile in bundle.tiles}
    house.pool.sent.clear()
    workflow_retry(workflow=workflow, actor="alice")
    house.finish()
    again = {tile for bundle in house.pool.sent for tile in bundle.tiles}
    assert again == set(range(100)) - done
    assert job_of(workflow).attempt == 2


@pytest.mark.parametrize("fate", ["dropped", "undelivered"])
def test_bundles_that_nobody_hears_of_are_sent_again(house: House, fate: str) -> None:
    workflow = submit(new_user(), "j1", "k1 b2")
    house.pool.fate = lambda _: fate if len(house.pool.sent) % 3 == 1 else "done"
    house.finish()
    assert status(workflow) == "SUCCEEDED"
    assert house.results(workflow) == ORIGINAL_CELLS
    assert house.inbox.counters()["lost_bundles"] > 0


def test_a_broker_that_is_away_for_a_while_costs_nothing(house: House) -> None:
    workflow = submit(new_user())
    house.pool.fate = lambda _: "unavailable"
    house.step(5)
    assert house.pool.sent == []
    house.pool.fate = lambda _: "done"
    house.finish()
    assert status(workflow) == "SUCCEEDED"
    assert len([tile for bundle in house.pool.sent for tile in bundle.tiles]) == 20


@pytest.mark.parametrize("steps", [1, 2, 4, 7, 12])
def test_a_new_leader_carries_on_wherever_the_old_one_was_stopped(house: House, steps: int) -> None:
    flows = [submit(new_user(name), "j1", "j2", "k1 b2") for name in ("alice", "bob")]
    house.step(steps)
    old = house.loop
    house.new_leader("second/1/1.0")
    with pytest.raises(Deposed):
        for _ in range(3):
            old.run_once(0)
    house.finish()
    assert [status(flow) for flow in flows] == ["SUCCEEDED"] * 2
    ended = story("job.finished")
    assert len(ended) == 6
    assert Job.objects.filter(attempt=1).count() == 6


def test_a_redis_that_restarts_empty_loses_nothing(tmp_path: Path, own_redis: RedisServer) -> None:
    house = House(tmp_path / "data", own_redis.url)
    flows = [submit(new_user(name), "j1", "j2", "k1 b2") for name in ("alice", "bob")]
    for _ in range(3):
        house.step(4)
        own_redis.restart()
    house.finish()
    assert [status(flow) for flow in flows] == ["SUCCEEDED"] * 2
    assert len(story("job.finished")) == 6


def test_a_cancel_of_a_job_that_waits_for_workers_acts_in_the_next_step(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is under way whose outcome would wake the loop: it must go on by itself."""
    workflow = submit(new_user())
    monkeypatch.setattr(house.pool, "workers", list)
    house.step()
    Job.objects.update(state="RUNNING", epoch=1)
    loop = house.new_leader("second/1/1.0", tick_s=3600.0)
    house.step(3)
    assert loop._patience() > 0.0
    workflow_cancel(workflow=workflow, actor="alice")
    house.step()
    assert loop._patience() == 0.0
    house.step()
    assert (states(workflow), status(workflow)) == ({"j1": "CANCELLED"}, "CANCELLED")


def test_a_deleted_folder_is_made_again_and_the_job_goes_on(house: House) -> None:
    workflow = submit(new_user())
    house.step(4)
    (folder,) = (house.data_dir / "tiles").iterdir()
    folder.rename(house.data_dir / "elsewhere")
    house.finish()
    assert (status(workflow), job_of(workflow).tiles_processed) == ("SUCCEEDED", 20)


def test_counters_tell_what_was_done(house: House) -> None:
    submit(new_user(), "j1", "j2")
    house.finish()
    house.step()
    counters = house.inbox.counters()
    assert (counters["jobs_started"], counters["jobs_ended"], counters["bundles_sent"]) == (2.0, 2.0, len(house.pool.sent))


def test_what_a_user_has_had_is_known_to_the_next_leader(house: House) -> None:
    workflow = submit(new_user())
    house.finish()
    [(user, seconds)] = VirtualTime.objects.values_list("user_id", "seconds")
    assert (user, seconds > 0) == (workflow.owner_id, True)
    house.new_leader("next/1/1.0")
    submit(workflow.owner, "k1")
    house.finish()
    assert VirtualTime.objects.get().seconds > seconds


def served(house: House, monkeypatch: pytest.MonkeyPatch, *queues: str) -> None:
    """A worker for each of these queues is seen from now on; without any, Redis is away."""
    (cpu,) = InlinePool(house.pool.settings).workers()

    def workers() -> list[Heartbeat]:
        if not queues:
            raise PoolUnavailable("Redis is away")
        return [replace(cpu, name=queue, queues=(queue,)) for queue in queues]

    monkeypatch.setattr(house.pool, "workers", workers)
    house.step()


def test_queues_are_expected_over_short_absences_of_workers_leaders_and_redis(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    both = ["cpu", "gpu"]
    assert expected_queues() == ["cpu"]
    served(house, monkeypatch, "cpu", "gpu")
    assert expected_queues() == both
    served(house, monkeypatch, "cpu")
    assert expected_queues() == both
    house.new_leader("second/1/1.0")
    house.step()
    assert expected_queues() == both
    house.new_leader("third/1/1.0", queue_patience_s=0.0)
    served(house, monkeypatch)
    assert expected_queues() == both, "where nobody is seen, nobody can say which are gone"
    served(house, monkeypatch, "cpu")
    assert expected_queues() == ["cpu"]
    assert [event.data["queues"] for event in Event.objects.filter(type__startswith="leader.").order_by("id")] == [
        ["cpu"], both, both, both, ["cpu"]
    ]  # fmt: skip

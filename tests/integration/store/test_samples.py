"""A sample shows what happened since the last one, costs a few short look-ups, and is kept for a week."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from scheduling.engine.config import EngineConfig
from scheduling.engine.ledger import Ledger
from scheduling.jobtypes.base import WorkerSettings
from scheduling.leader.pool import PoolUnavailable
from scheduling.leader.sampling import Sampler
from scheduling.models import Event, Job, MetricSample
from scheduling.protocol.inbox import Inbox, connect
from scheduling.services.workflows import workflow_cancel
from scheduling.store import samples
from scheduling.store.lease import Deposed
from tests.integration.store.house import House
from tests.integration.store.test_query_plans import leader, statements, walks_among
from tests.integration.working import Leader, lead, new_user, submit
from tests.support.inline_pool import InlinePool
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.django_db
__all__ = ["leader"]  # the fixture

MOMENT_KEYS = {"jobs", "users", "oldest_pending_s"}
KEYS = MOMENT_KEYS | {
    *("interval_s", "ended", "workers", "processes", "busy", "bundles", "tiles_per_s", "worker_s", "pass_ms"),
    *("stale_outcomes", "lost_bundles"),
}


class Bench:
    """A sampler that samples after every pass but the first."""

    def __init__(self, data_dir: Path, url: str, leader: Leader) -> None:
        config = EngineConfig(data_dir=data_dir, max_workers=4, max_concurrent_users=3)
        self.leader, self.inbox = leader, Inbox(connect(url))
        self.ledger = Ledger(config, leader.lease.term)
        self.pool = InlinePool(WorkerSettings(data_dir=data_dir, simulated_seconds_per_tile=0.0), processes=3)
        self.sampler = Sampler(leader.lease, self.inbox, self.pool, every_s=0.0)

    def passed(self) -> None:
        self.sampler.passed(self.ledger, time.monotonic() - 0.25)

    def sample(self) -> dict[str, Any]:
        self.passed()
        newest = MetricSample.objects.order_by("-pk").first()
        assert newest is not None
        return dict(newest.data)


@pytest.fixture
def bench(tmp_path: Path, redis_server: RedisServer) -> Bench:
    """A bench whose interval has begun."""
    made = Bench(tmp_path, redis_server.url, lead())
    made.passed()
    assert not MetricSample.objects.exists()
    return made


def test_a_sample_shows_the_interval_since_the_one_before(bench: Bench) -> None:
    users = [new_user(name) for name in "abcd"]
    flows = [submit(user, "j1 a", "j2 b") for user in users]
    bench.leader.settle()
    bench.leader.end(flows[0], "j1")
    workflow_cancel(workflow=flows[3], actor="d")
    bench.ledger.tiles, bench.ledger.worker_s = 50, {"cpu": 12.5}
    bench.inbox.count(stale_outcomes=3, lost_bundles=1, bundles_sent=9)
    data = bench.sample()
    assert set(data) == KEYS
    assert data["jobs"] == {"PENDING": Job.objects.filter(state="PENDING").count(), "RUNNING": 4}
    assert (data["users"], data["ended"]) == ({"active": 3, "waiting": 0}, {"SUCCEEDED": 1, "CANCELLED": 2})
    assert (data["workers"], data["processes"], data["busy"], data["bundles"]) == (1, 3, 0, 0)
    assert (data["worker_s"], data["stale_outcomes"], data["lost_bundles"]) == ({"cpu": 12.5}, 3, 1)
    assert data["tiles_per_s"] == pytest.approx(50 / data["interval_s"], rel=0.2)
    assert data["pass_ms"] == pytest.approx(250, abs=100)
    assert data["oldest_pending_s"] > 0
    again = bench.sample()
    assert (again["tiles_per_s"], again["worker_s"], again["ended"]) == (0.0, {"cpu": 0.0}, {})
    assert (again["stale_outcomes"], again["lost_bundles"]) == (0, 0)


@pytest.mark.django_db(transaction=True)
def test_a_leaders_loop_samples_what_it_does(house: House) -> None:
    house.loop._sampler = Sampler(house.lease, house.inbox, house.pool, every_s=0.0)
    house.step()
    submit(new_user(), "j1", "k1 b2")
    house.finish()
    house.step(2)
    taken = list(MetricSample.objects.order_by("pk").values_list("data", flat=True))
    assert sum(data["ended"].get("SUCCEEDED", 0) for data in taken) == 2
    assert sum(data["tiles_per_s"] * data["interval_s"] for data in taken) == pytest.approx(40, rel=0.1)
    assert sum(data["worker_s"].get("cpu", 0.0) for data in taken) > 0
    assert {data["workers"] for data in taken} == {1}


def test_no_sample_is_taken_before_its_time(bench: Bench) -> None:
    bench.sampler = Sampler(bench.leader.lease, bench.inbox, bench.pool)
    for _ in range(3):
        bench.passed()
    assert not MetricSample.objects.exists()


def test_what_is_away_is_null_and_the_rest_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> Any:
        raise PoolUnavailable("no broker")

    monkeypatch.setattr(bench.pool, "workers", away)
    monkeypatch.setattr(bench.sampler, "_inbox", Inbox(connect("unix:///no/such/socket")))
    data = bench.sample()
    assert [data[name] for name in ("workers", "processes", "busy", "stale_outcomes", "lost_bundles")] == [None] * 5
    assert data["jobs"] == {"PENDING": 0, "RUNNING": 0}


def test_counters_of_a_redis_that_was_restarted_empty_do_not_go_down(bench: Bench, redis_server: RedisServer) -> None:
    bench.inbox.count(lost_bundles=7)
    assert bench.sample()["lost_bundles"] == 7
    redis_server.restart()
    bench.inbox.count(lost_bundles=2)
    assert bench.sample()["lost_bundles"] == 0
    bench.inbox.count(lost_bundles=2)
    assert bench.sample()["lost_bundles"] == 2


def test_a_deposed_leader_takes_no_sample(bench: Bench) -> None:
    lead("next/1/1.0")
    with pytest.raises(Deposed):
        bench.passed()
    assert not MetricSample.objects.exists()


def test_counting_reads_what_is_unfinished_and_walks_through_no_table(leader: Leader) -> None:
    Event.objects.update(data={"state": "SUCCEEDED"})
    after = samples.last_event() - 20
    sent = statements(lambda: (samples.counted(timezone.now()), samples.ended_between(after, samples.last_event())))
    assert len(sent) == 7
    assert not walks_among(sent)


def test_the_age_of_the_oldest_waiting_job_is_told() -> None:
    assert samples.counted(timezone.now())["oldest_pending_s"] == 0.0
    submit(new_user(), "j1", "j2")
    now = timezone.now()
    Job.objects.filter(job_id="j1").update(state="SUCCEEDED", created_at=now - timedelta(hours=2))
    Job.objects.filter(job_id="j2").update(created_at=now - timedelta(seconds=90))
    assert samples.counted(now)["oldest_pending_s"] == 90.0


def test_samples_older_than_a_week_go() -> None:
    now = timezone.now()
    MetricSample.objects.bulk_create(MetricSample(at=now - timedelta(days=days)) for days in (1, 6, 8, 30))
    lease = lead().lease
    assert (samples.forget_old_samples(lease, now), samples.forget_old_samples(lease, now)) == (2, 0)
    assert MetricSample.objects.count() == 2
    assert not Event.objects.exists()

"""Every message of a run is said again, late, twice and in any order: nothing changes, and what is stale is counted."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.conf import settings

from scheduling.leader.pool import CeleryPool
from scheduling.models import Event, Job, User, Workflow
from scheduling.protocol.messages import Bundle, Parcel
from scheduling.selectors.queue import counters
from scheduling.services.workflows import workflow_cancel, workflow_retry
from tests.engine.harness import Engine, Worker, is_running, states, submit
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine


@dataclass
class Recorded:
    """What went to the workers."""

    bundles: list[tuple[Bundle, str]] = field(default_factory=list)

    def listen(self, pool: CeleryPool) -> None:
        """From now on, to this pool too."""
        submit_all = pool.submit

        def submit(parcels: Sequence[Parcel]) -> None:
            self.bundles += [(bundle, parcel.queue) for parcel in parcels for bundle in parcel.bundles]
            submit_all(parcels)

        pool.submit = submit  # type: ignore[method-assign]


def everything(*workflows: Workflow) -> dict[str, Any]:
    """Rows, events and files of these workflows as they are."""
    jobs = Job.objects.filter(workflow__in=workflows).order_by("pk")
    folders = [settings.DATA_DIR / "results" / str(job.uuid) for job in jobs]
    return {
        "workflows": list(Workflow.objects.filter(pk__in=[workflow.pk for workflow in workflows]).order_by("pk").values()),
        "jobs": list(jobs.values()),
        "events": list(Event.objects.filter(workflow_uuid__in=[workflow.uuid for workflow in workflows]).order_by("pk").values()),
        "files": {str(file): file.read_bytes() for folder in folders for file in folder.rglob("*") if file.is_file()},
    }


@pytest.fixture
def past(engine: Engine, worker: Worker, alice: User) -> tuple[Recorded, list[Workflow], list[dict[str, Any]]]:
    """A run with a success, a failure that was tried three times, a cancel and a retry; its bundles and outcomes."""
    recorded = Recorded()
    recorded.listen(engine.pool)
    fine = submit(alice, ("a1", "a"), ("a2", "a"), ("b1", "b"), tiles=12, seconds_per_tile=0.01)
    broken = submit(alice, ("j", "b"), tiles=6, seconds_per_tile=0.01, fail_at_tile=3)
    stopped = submit(alice, ("j", "b"), tiles=4000, seconds_per_tile=0.02)
    engine.run_until(lambda: is_running(stopped, tiles=3), "three tiles")
    workflow_cancel(workflow=stopped, actor="alice")
    engine.finish(fine, broken, stopped)
    workflow_retry(workflow=broken, actor="alice")
    engine.finish(broken)
    assert (states(broken), states(stopped)) == ({"j": "FAILED"}, {"j": "CANCELLED"})
    return recorded, [fine, broken, stopped], list(engine.inbox.delivered)


def stale(engine: Engine) -> int:
    """Stale outcomes counted so far."""
    engine.loop._look_around(0.0)
    return int(counters().get("stale_outcomes", 0))


def test_outcomes_that_come_again_change_nothing_for_this_leader_and_the_next(
    engine: Engine, past: tuple[Recorded, list[Workflow], list[dict[str, Any]]], alice: User
) -> None:
    _, flows, outcomes = past
    before, again = everything(*flows), [*outcomes, *outcomes]
    random.Random(1).shuffle(again)
    for outcome in again:
        engine.inbox.push(engine.lease.term, outcome)
    counted, delivered = stale(engine), len(engine.inbox.delivered)
    engine.run_until(lambda: len(engine.inbox.delivered) >= delivered + len(again), "all of them")
    assert stale(engine) == counted + len(again)
    assert everything(*flows) == before

    engine.lead()
    other = submit(alice, ("j", "b"), tiles=60, seconds_per_tile=0.02)
    engine.run_until(lambda: is_running(other, tiles=2), "two tiles")
    for outcome in again:
        engine.inbox.push(engine.lease.term, outcome)
    engine.finish(other)
    assert states(other) == {"j": "SUCCEEDED"}
    assert everything(*flows) == before


def test_bundles_that_come_again_are_worked_on_for_nobody(
    engine: Engine, past: tuple[Recorded, list[Workflow], list[dict[str, Any]]], alice: User
) -> None:
    recorded, flows, _ = past
    before, again = everything(*flows), [*recorded.bundles, *recorded.bundles]
    random.Random(2).shuffle(again)
    other = submit(alice, ("j", "b"), tiles=60, seconds_per_tile=0.02)
    counted, delivered = stale(engine), len(engine.inbox.delivered)
    for bundle, queue in again:
        engine.pool.submit([Parcel(bundles=(bundle,), queue=queue, is_first=False)])
    engine.finish(other)
    engine.run_until(lambda: len(engine.inbox.delivered) >= delivered + len(again), "an answer to each of them")
    eventually(lambda: stale(engine) >= counted + len(again), "the count of all of them")
    assert states(other) == {"j": "SUCCEEDED"}
    assert everything(*flows) == before

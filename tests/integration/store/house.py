"""The real loop over a data folder and a Redis, with workers in this process; one leader after another."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scheduling.engine.config import EngineConfig
from scheduling.jobtypes.base import WorkerSettings
from scheduling.leader.loop import SchedulerLoop
from scheduling.leader.pool import PoolUnavailable
from scheduling.models import Job, Workflow
from scheduling.protocol.inbox import Inbox, connect
from scheduling.protocol.messages import Bundle, Parcel
from scheduling.store.lease import Lease
from tests.integration.working import job_of, lead
from tests.support.inline_pool import InlinePool


class Pool(InlinePool):
    """Carries bundles out at once and delivers through the inbox, unless `fate` says otherwise."""

    def __init__(self, data_dir: Path, inbox: Inbox) -> None:
        super().__init__(WorkerSettings(data_dir=data_dir, simulated_seconds_per_tile=0.0))
        self.inbox = inbox
        self.sent: list[Bundle] = []
        self.dropped: set[str] = set()
        #: What becomes of a bundle: "done", "dropped" (nobody ever hears of it), "undelivered" (done, but its outcome is lost).
        self.fate: Callable[[Bundle], str] = lambda bundle: "done"

    def submit(self, parcels: Sequence[Parcel]) -> None:
        """Run them and push what became of them."""
        for parcel in parcels:
            for bundle in parcel.bundles:
                self._submit(bundle, parcel)

    def _submit(self, bundle: Bundle, parcel: Parcel) -> None:
        fate = self.fate(bundle)
        if fate == "unavailable":
            raise PoolUnavailable("the broker is away")
        self.sent.append(bundle)
        if fate != "done":
            self.dropped.add(bundle.id)
        if fate != "dropped":
            super().submit([replace(parcel, bundles=(bundle,))])
            outcome = self.outcomes.pop()
            if fate == "done":
                self.inbox.push(bundle.term, outcome.to_json())

    def held(self) -> frozenset[str]:
        """What was delivered and not dropped."""
        return frozenset(bundle.id for bundle in self.sent) - self.dropped


class House:
    """A data folder, a Redis and the leaders that follow one another on them."""

    def __init__(self, data_dir: Path, url: str) -> None:
        self.data_dir = data_dir
        self.inbox = Inbox(connect(url))
        self.pool = Pool(data_dir, self.inbox)
        self.loop = self.new_leader("first/1/1.0")

    def new_leader(self, holder: str, tick_s: float = 0.0, **changes: float) -> SchedulerLoop:
        """A leader that has taken over."""
        self.lease: Lease = lead(holder).lease
        # Every step is a tick, and what nobody names is lost at once: the tests wait for nothing.
        times = {"tick_s": tick_s, "shares_to_database_s": 0.0, "lost_after_s": 0.0, "tile_backoff_s": (0.0,), **changes}
        config = EngineConfig(data_dir=self.data_dir, max_workers=4, max_concurrent_users=3, **times)  # type: ignore[arg-type]
        self.loop = SchedulerLoop(config=config, lease=self.lease, inbox=self.inbox, pool=self.pool)
        self.loop.begin()
        return self.loop

    def step(self, times: int = 1) -> None:
        """Some steps of the loop."""
        for _ in range(times):
            self.loop.run_once(0)

    def finish(self) -> None:
        """Step until every workflow has ended; progress never falls on the way."""
        shown: dict[int, tuple[int, int]] = {}
        for _ in range(500):
            self.step()
            for key, attempt, tiles in Job.objects.values_list("id", "attempt", "tiles_processed"):
                assert (attempt, tiles) >= shown.get(key, (0, 0))
                shown[key] = (attempt, tiles)
            if not Job.objects.filter(state__in=["PENDING", "RUNNING"]).exists():
                return
        raise AssertionError(f"unfinished after 500 steps: {dict(Job.objects.values_list('job_id', 'state'))}")

    def results(self, workflow: Workflow, job_id: str = "j1") -> Any:
        """What the job's results.json holds."""
        return json.loads((self.data_dir / "results" / str(job_of(workflow, job_id).uuid) / "results.json").read_text())

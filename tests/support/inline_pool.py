"""A pool for tests of the loop that need no broker."""

from __future__ import annotations

from collections.abc import Sequence

from scheduling.jobtypes.base import WorkerSettings
from scheduling.protocol import presence
from scheduling.protocol.messages import Outcome, Parcel
from scheduling.version import code_version
from scheduling.worker.task import run


class InlinePool:
    """Carries bundles out at once, in this process."""

    def __init__(self, settings: WorkerSettings, processes: int = 2) -> None:
        self.settings = settings
        self.outcomes: list[Outcome] = []
        self._stopped: set[tuple[str, int]] = set()
        self._processes = processes

    def submit(self, parcels: Sequence[Parcel]) -> None:
        """Run them now; the outcomes wait in `outcomes`."""
        for bundle in (bundle for parcel in parcels for bundle in parcel.bundles):
            self.outcomes.append(run(bundle, self.settings, worker="inline", is_stopped=(bundle.spec.id, bundle.epoch) in self._stopped))

    def stop(self, job: str, epoch: int, *, is_ended: bool) -> None:
        """As Pool.stop."""
        self._stopped.add((job, epoch))

    def workers(self) -> list[presence.Heartbeat]:
        """One worker that is always there."""
        said = {"queues": ("cpu",), "state": "idle", "bundles": (), "heartbeat": "", "version": code_version()}
        return [presence.Heartbeat(name="inline", processes=self._processes, **said)]  # type: ignore[arg-type]

    def held(self) -> frozenset[str]:
        """Nothing is ever under way between two calls."""
        return frozenset(outcome.bundle for outcome in self.outcomes)

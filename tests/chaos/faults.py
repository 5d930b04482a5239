"""Carries the plan out: finds the process that a fault is meant for, hits it, and waits until what is away has come back."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.chaos.cluster import WAYS, Cluster
from tests.chaos.installation import Installation
from tests.chaos.plan import AWAY, STOPPED, Fault, Kind
from tests.support.waiting import eventually

#: A target that is just being started again is waited for.
TARGET_WITHIN_S = 30.0
BACK_WITHIN_S = 60.0
#: However late the last fault was, its recovery can be measured.
LEAST_GAP_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Happened:
    """A fault that was carried out. `since` is from when recovery is measured; times of the monotonic clock."""

    fault: Fault
    began: float
    ended: float
    #: For people: which process, which way.
    what: str

    @property
    def since(self) -> float:
        """The beginning, or the return of what was away."""
        return self.ended if self.fault.kind in AWAY else self.began


class Saboteur:
    """Carries faults out, one at a time."""

    def __init__(self, installation: Installation, cluster: Cluster | None) -> None:
        self._installation, self._cluster = installation, cluster
        #: What appeared in place of the results folder while it was away.
        self.strays: list[str] = []
        self._targets: dict[Kind, Callable[[], Sequence[psutil.Process]]] = {
            Kind.LEADER_KILLED: installation.leader,
            Kind.LEADER_STOPPED: installation.leader,
            Kind.STANDBY_KILLED: installation.standbys,
            Kind.STANDBY_STOPPED: installation.standbys,
            Kind.WORKER_KILLED: installation.workers,
            Kind.WORKER_STOPPED: installation.workers,
            Kind.CHILD_KILLED: installation.children,
            Kind.CHILD_STOPPED: installation.children,
            Kind.WEB_KILLED: installation.web,
            Kind.WEB_STOPPED: installation.web,
            Kind.REDIS_KILLED: installation.redis,
            Kind.REDIS_KILLED_TWICE: installation.redis,
        }

    def carry_out(self, plan: Sequence[Fault], began: float, tell: Callable[[Happened], None]) -> list[Happened]:
        """All faults in their time after `began`. Raises AssertionError when a target or a return does not come."""
        happened: list[Happened] = []
        for fault in plan:
            earliest = happened[-1].ended + LEAST_GAP_S if happened else began
            time.sleep(max(0.0, began + fault.at_s - time.monotonic(), earliest - time.monotonic()))
            happened.append(self._hit(fault))
            tell(happened[-1])
        return happened

    def _hit(self, fault: Fault) -> Happened:
        if fault.kind is Kind.POSTGRES_RESTARTED:
            return self._restart_postgres(fault)
        if fault.kind is Kind.RESULTS_AWAY:
            return self._take_results_away(fault)
        process = self._target(fault)
        began = time.monotonic()
        if fault.kind in STOPPED:
            _stop_for(process, fault.lasts_s)
        else:
            _kill(process)
            self._until_back(fault, process)
        return Happened(fault=fault, began=began, ended=time.monotonic(), what=f"process {process.pid}")

    def _target(self, fault: Fault) -> psutil.Process:
        find = self._targets[fault.kind]
        found = eventually(find, f"a target for “{fault.kind}”", within_s=TARGET_WITHIN_S)
        return found[fault.pick % len(found)]

    def _until_back(self, fault: Fault, killed: psutil.Process) -> None:
        installation = self._installation
        if fault.kind is Kind.REDIS_KILLED_TWICE:
            time.sleep(1.0)
            second = eventually(lambda: [p for p in installation.redis() if p != killed], "the return of Redis", within_s=BACK_WITHIN_S)
            _kill(second[0])
        if fault.kind in {Kind.REDIS_KILLED, Kind.REDIS_KILLED_TWICE}:
            eventually(installation.redis_answers, "the return of Redis", within_s=BACK_WITHIN_S)
        if fault.kind is Kind.WEB_KILLED:
            eventually(lambda: installation.product.status("/healthz") == 200, "the return of the web server", within_s=BACK_WITHIN_S)

    def _restart_postgres(self, fault: Fault) -> Happened:
        assert self._cluster is not None, "the plan of SQLite restarts no PostgreSQL"
        began, way = time.monotonic(), WAYS[fault.pick % len(WAYS)]
        self._cluster.restart(way)
        return Happened(fault=fault, began=began, ended=time.monotonic(), what=way)

    def _take_results_away(self, fault: Fault) -> Happened:
        """As when a mounted disk goes and comes back: what was written into the empty place meanwhile is out of sight afterwards."""
        results, away = self._installation.data_dir / "results", self._installation.root / "away"
        began = time.monotonic()
        results.rename(away)
        time.sleep(fault.lasts_s)
        self._bring_back(away, results, int(began))
        return Happened(fault=fault, began=began, ended=time.monotonic(), what=f"{fault.lasts_s} s")

    def _bring_back(self, away: Path, results: Path, number: int) -> None:
        aside = self._installation.root / f"stray-{number}"
        while away.exists():
            with contextlib.suppress(FileNotFoundError):
                results.rename(aside)
            with contextlib.suppress(FileExistsError, OSError):  # made again in between
                away.rename(results)
        self.strays += [str(path.relative_to(aside)) for path in aside.rglob("*") if path.is_file()]


def _stop_for(process: psutil.Process, seconds: float) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGKILL)

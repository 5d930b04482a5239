"""What a run says in the end: lines for people, one object for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.faults import Happened
from tests.chaos.recovery import Sample, all_resumed_s, percentile, resumed_s, standstills
from tests.chaos.settings import ChaosSettings

RESULTS = Path(__file__).resolve().parents[2] / "var" / "chaos"
P95_LIMIT_S = 12.0
STANDSTILL_S = 3.0
SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """One fault, and how soon work went on (`recovery` says what the two times mean; None = never)."""

    kind: str
    what: str
    #: Seconds after the beginning of the load, and for how long it lasted or was away.
    at_s: float
    lasted_s: float
    resumed_s: float | None
    all_resumed_s: float | None


@dataclass(kw_only=True)
class Report:
    """Everything measured and found. A run passes when all lists are empty and the 95th percentile keeps its limit."""

    settings: ChaosSettings
    recoveries: list[Recovery] = field(default_factory=list)
    #: When nothing went on for several seconds, fault or not: [seconds after the beginning, seconds].
    standstills: list[tuple[float, float]] = field(default_factory=list)
    stopped_in_s: float = 0.0
    drained_in_s: float = 0.0
    load: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    ready: dict[str, int] = field(default_factory=dict)
    states: dict[str, int] = field(default_factory=dict)
    checker: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    @property
    def failures(self) -> list[str]:
        """Why the run fails, one line each; [] when it passes."""
        found = [f"lost: {line}" for line in self.lost]
        found += [f"doubled: {line}" for line in self.doubled]
        found += [f"violation: {line}" for line in self.violations]
        found += [f"never resumed: {r.kind} at {r.at_s:.1f} s" for r in self.recoveries if r.resumed_s is None]
        p95 = percentile(self.times(), 95)
        return [*found, f"recovery: p95 is {p95:.1f} s, at most {P95_LIMIT_S:g} s are allowed"] if p95 > P95_LIMIT_S else found

    def times(self, kind: str | None = None) -> list[float]:
        """Recovery times, of one kind of fault or of all."""
        return [r.resumed_s for r in self.recoveries if r.resumed_s is not None and kind in {None, r.kind}]

    def write(self) -> Path:
        """Write var/chaos/<database>-<seed>.json."""
        file = RESULTS / f"{self.settings.database}-{self.settings.seed}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        p50, p95 = percentile(self.times(), 50), percentile(self.times(), 95)
        told = {**asdict(self), "recovery_s": {"p50": p50, "p95": p95, "max": max(self.times(), default=None)}, "failures": self.failures}
        file.write_text(json.dumps(told, indent=1) + "\n")
        return file

    def lines(self) -> list[str]:
        """For people."""
        counts = [f"{len(self.lost)} lost, {len(self.doubled)} doubled, {len(self.violations)} violations"]
        return [
            "time from fault to work resumed (s; the last column: until every job that ran went on)",
            *_table(self),
            f"standstills (at, s) {self.standstills}; all ended {self.drained_in_s:.1f} s after the load; stopped in {self.stopped_in_s:.1f} s",
            f"submitted {self.load}; ended {self.states}",
            f"answers {self.answers}",
            f"/readyz {self.ready}",
            f"verify_events { ({name: value for name, value in self.checker.items() if name != 'violations'}) }",
            *[f"note: {note}" for note in self.notes],
            *counts,
            *[f"FAILED {line}" for line in self.failures[:SHOWN]],
            *([f"FAILED … and {len(self.failures) - SHOWN} more"] if len(self.failures) > SHOWN else []),
        ]


def _table(report: Report) -> list[str]:
    rows = [f"  {'':<22}{'n':>4}{'p50':>8}{'p95':>8}{'max':>8}{'all jobs':>10}"]
    for kind in [*sorted({r.kind for r in report.recoveries}), None]:
        times = report.times(kind)
        longest = max(
            (math.inf if r.all_resumed_s is None else r.all_resumed_s for r in report.recoveries if kind in {None, r.kind}), default=0.0
        )
        figures = "".join(f"{percentile(times, p):>8.2f}" for p in (50, 95, 100))
        rows.append(f"  {kind or 'all':<22}{len(times):>4}{figures}{longest:>10.2f}")
    return rows


def recoveries(happened: Sequence[Happened], samples: Sequence[Sample], began: float) -> list[Recovery]:
    """The recovery from each fault, by the samples."""
    return [
        Recovery(
            kind=fault.fault.kind.value,
            what=fault.what,
            at_s=round(fault.began - began, 2),
            lasted_s=round(fault.ended - fault.began, 2),
            resumed_s=_rounded(resumed_s(fault.since, samples)),
            all_resumed_s=_rounded(all_resumed_s(fault.since, samples)),
        )
        for fault in happened
    ]


def pauses(samples: Sequence[Sample], began: float, ended: float) -> list[tuple[float, float]]:
    """The standstills while there was load, from its beginning."""
    found = standstills([sample for sample in samples if began <= sample.at <= ended], STANDSTILL_S)
    return [(round(at - began, 1), round(seconds, 1)) for at, seconds in found]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)

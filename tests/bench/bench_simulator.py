"""How fast a million tiles go through the policy and the ledger in virtual time."""

from __future__ import annotations

import time

from scheduling.simulator.lab import simulate
from scheduling.simulator.scenarios import make
from tests.bench.figures import Figure


def measure() -> dict[str, Figure]:
    """The scenario `million`, and the greedy one's figures of fairness."""
    began = time.perf_counter()
    million = simulate(make("million", 1), 1)
    took_s = time.perf_counter() - began
    greedy = simulate(make("greedy", 1), 1)
    return {
        f"simulating {million.tiles:,} tiles": Figure(round(took_s, 2), "s", "lower"),
        "million: makespan": Figure(million.makespan_ratio, "ratio to the least possible", "lower"),
        "million: worst lag behind the ideal share": Figure(million.worst_lag_s, "worker-seconds", "lower"),
        "greedy: Jain index": Figure(greedy.jain, "1 is even", "higher"),
        "greedy: worst lag behind the ideal share": Figure(greedy.worst_lag_s, "worker-seconds", "lower"),
    }

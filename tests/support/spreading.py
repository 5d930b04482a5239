"""How the suite is spread over processes: what tests share is made once, and what takes long begins first."""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadScopeScheduling

#: Run one after the other in one process, since they share what takes long to start: a product and a browser, a Celery worker. All other
#: tests of a module share a process, as they share its fixtures, but for those below.
TOGETHER = {
    "tests/browser/": "a product and a browser",
    "tests/engine/test_real_worker.py": "a worker",
    "tests/engine/test_recovery.py": "a worker",
    "tests/engine/test_checkpoints.py": "a worker",
    "tests/engine/test_fairness.py": "a worker",
    "tests/engine/test_replay.py": "a worker",
}
#: Long, and with nothing to share: each test of these goes where there is room.
APART = (
    "tests/integration/test_up.py",
    "tests/engine/",
    "tests/integration/with_torch/",
    "tests/unit/simulator/test_simulator.py",
    "tests/unit/instanseg/with_torch/test_probe.py",
    "tests/integration/api/test_conformance.py",
    "tests/unit/audit/test_checker_properties.py",
    "tests/unit/engine/test_policy_properties.py",
)
#: Begun before all else, in this order.
FIRST = (
    "tests/integration/test_earlier_version.py",
    "tests/browser/",
    *TOGETHER,
    "tests/integration/test_up.py",
    "tests/engine/",
    "tests/integration/with_torch/",
    "tests/integration/test_web_server.py",
    "tests/unit/instanseg/",
    "tests/unit/simulator/test_simulator.py",
    "tests/integration/store/",
    "tests/integration/",
)
#: Unit tests that take seconds, most of them whole modules: `make test-fast` leaves them to `make test`.
LONG = (
    "tests/unit/audit/test_checker_properties.py",
    "tests/unit/simulator/test_simulator.py",
    "tests/unit/instanseg/test_downloading.py",
    "tests/unit/instanseg/test_probing.py",
    "tests/unit/instanseg/test_warm.py",
    "tests/unit/instanseg/with_torch/",
    "tests/unit/jobtypes/test_cell_export.py",
    "tests/unit/tilestore/test_damage.py",
    "tests/unit/jobtypes/test_limits.py",
    "tests/unit/worker/test_reuse.py",
    "tests/unit/jobtypes/test_segment_cells.py",
    "tests/unit/jobtypes/test_shown.py",
    "tests/unit/tilestore/test_stage_times.py",
    "tests/unit/tilestore/test_tilefiles.py",
    "tests/unit/jobtypes/test_tissue_mask.py",
    "tests/unit/jobtypes/test_whole_cells.py",
    "tests/unit/services/test_dependencies.py::test_a_thousand_jobs",
    "tests/unit/slides/test_formats.py",
    "tests/unit/slides/test_nuclei.py",
    "tests/unit/slides/test_outlines.py",
    "tests/unit/viewer/test_overlay.py",
    "tests/unit/slides/test_overview.py",
    "tests/unit/slides/test_regions.py",
    "tests/unit/slides/test_registration.py",
    "tests/unit/slides/test_seams.py",
    "tests/unit/slides/test_splitting.py",
    "tests/unit/slides/test_tissue.py",
    "tests/unit/viewer/test_vectortiles.py",
    "tests/unit/slides/test_windows.py",
    "tests/unit/test_bench.py",
)
#: What they show is of workers, which have no database: without WHOLE=1 they run on SQLite alone.
OF_WORKERS = (
    "tests/engine/test_giant_slide.py",
    "tests/engine/test_gpu_worker.py",
    "tests/engine/test_real_worker.py",
    "tests/engine/test_slow_is_not_lost.py",
    "tests/engine/test_workers.py",
)


def turn_of(nodeid: str) -> int:
    """The earlier, the smaller."""
    return next((turn for turn, place in enumerate(FIRST) if nodeid.startswith(place)), len(FIRST))


def shared_with(nodeid: str) -> str:
    """What the test shares with others; tests of which this is equal run in one process."""
    if together := next((what for place, what in TOGETHER.items() if nodeid.startswith(place)), ""):
        return together
    return nodeid if nodeid.startswith(APART) else nodeid.partition("::")[0]


class Spread(LoadScopeScheduling):
    """xdist's scheduling by scope, with our scopes, in the order of collection."""

    def __init__(self, config: Any, log: Any) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return shared_with(nodeid)

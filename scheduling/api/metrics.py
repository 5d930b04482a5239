"""The Prometheus text of GET /metrics: figures of the database and the engine, and counters of this process."""

from __future__ import annotations

import re
from collections.abc import Iterator

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from scheduling.selectors.health import Figures, figures


class FiguresCollector(Collector):
    """The figures of one moment as metrics; a figure that is not known is left out rather than shown as zero."""

    def __init__(self, moment: Figures) -> None:
        self._moment = moment

    def collect(self) -> Iterator[Metric]:
        """All families."""
        moment = self._moment
        yield _by("workflow_up", "Whether a part of the service is up.", "part", {part: float(up) for part, up in moment.up.items()})
        if moment.jobs is not None:
            yield _by("workflow_jobs", "Jobs by state.", "state", moment.jobs)
        if moment.workflows is not None:
            yield _by("workflow_workflows", "Workflows by status.", "status", moment.workflows)
        yield from _gauge("workflow_active_users", "Users that hold a slot.", moment.active_users)
        yield from _gauge("workflow_waiting_users", "Users that wait for a slot.", moment.waiting_users)
        yield from _gauge("workflow_oldest_pending_seconds", "Age of the oldest pending job.", moment.oldest_pending_s)
        yield from _gauge("workflow_workers", "Live workers.", moment.workers)
        yield from _gauge("workflow_worker_processes", "Processes of the live workers.", moment.worker_processes)
        yield from _gauge("workflow_disk_free_bytes", "Free bytes of the file system of DATA_DIR.", moment.disk_free_bytes)
        for name, value in sorted(moment.engine.items()):
            yield CounterMetricFamily(f"workflow_engine_{_safe(name)}", "Counted by the scheduler and the workers.", value=value)


def text() -> bytes:
    """The exposition, text format 0.0.4."""
    registry = CollectorRegistry()
    registry.register(FiguresCollector(figures()))
    return generate_latest(registry) + generate_latest(REGISTRY)


def _by(name: str, documentation: str, label: str, values: dict[str, int] | dict[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, documentation, labels=[label])
    for word, value in values.items():
        family.add_metric([word], value)
    return family


def _gauge(name: str, documentation: str, value: float | None) -> Iterator[Metric]:
    if value is not None:
        yield GaugeMetricFamily(name, documentation, value=value)


def _safe(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)

"""Reads of the engine's samples for charts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from scheduling.models import MetricSample
from scheduling.selectors.times import iso


def samples(*, since: datetime, until: datetime, at_most: int) -> list[dict[str, Any]]:
    """Samples of a time (since <= at < until), oldest first: all of them, or `at_most` at even steps, the newest among them.

    Each is what `leader.sampling` has measured, with its time as `at`. Raises ValueError for less than one.
    """
    if at_most < 1:
        raise ValueError("at least one sample")
    found = list(MetricSample.objects.filter(at__gte=since, at__lt=until).order_by("at", "pk").values_list("pk", flat=True))
    chosen = found
    if len(found) > at_most:
        chosen = [found[(place + 1) * len(found) // at_most - 1] for place in range(at_most)]
    rows = MetricSample.objects.filter(pk__in=chosen).order_by("at", "pk")
    return [{"at": iso(at), **data} for at, data in rows.values_list("at", "data")]

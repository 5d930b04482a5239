"""Rows that have had their time, removed beside the loop."""

from __future__ import annotations

from datetime import datetime, timedelta

from scheduling.models import IdempotencyKey

#: How long an Idempotency-Key gives its first answer again.
IDEMPOTENCY_KEPT = timedelta(hours=24)
BATCH = 500


def forget_old_keys(now: datetime) -> int:
    """Remove Idempotency-Keys that are too old to answer, some at a time; how many."""
    old = list(IdempotencyKey.objects.filter(created_at__lt=now - IDEMPOTENCY_KEPT).values_list("pk", flat=True)[:BATCH])
    return IdempotencyKey.objects.filter(pk__in=old).delete()[0] if old else 0

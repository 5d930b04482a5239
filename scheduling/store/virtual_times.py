"""The fair-share clocks on disk, so that a new leader neither forgives a debt nor grants a credit."""

from __future__ import annotations

from collections.abc import Mapping

from scheduling.models import VirtualTime

#: Virtual seconds by (user, queue).
Shares = Mapping[tuple[int, str], float]


def load_shares() -> dict[tuple[int, str], float]:
    """As they stood when a leader last saved them."""
    return {(user, queue): seconds for user, queue, seconds in VirtualTime.objects.values_list("user_id", "queue", "seconds")}


def save_shares(shares: Shares) -> None:
    """Write those given in one statement, inside the leader's transaction; others stay as they are."""
    rows = [VirtualTime(user_id=user, queue=queue, seconds=seconds) for (user, queue), seconds in sorted(shares.items())]
    VirtualTime.objects.bulk_create(rows, update_conflicts=True, update_fields=["seconds"], unique_fields=["user", "queue"])

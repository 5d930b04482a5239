"""How the scheduler tells workers that a claim's bundles are not wanted any more."""

from __future__ import annotations

STOPPED = "stopped"
ENDED = b"ended"


def stop_key(job: str, epoch: int) -> str:
    """The Redis key that says that bundles of this claim need not be started any more; with ENDED, nor be carried on."""
    return f"{STOPPED}:{job}:{epoch}"

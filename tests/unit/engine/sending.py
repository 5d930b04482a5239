"""Short ways to have a ledger send, and to look at what it says."""

from __future__ import annotations

from scheduling.engine.entry import End
from scheduling.engine.ledger import Dispatch, Ledger
from tests.unit.engine.making import config

ONE = {"cpu": 1}


def new_ledger(**changes: object) -> Ledger:
    """An empty ledger of term 3."""
    return Ledger(config(**changes), 3)


def send(ledger: Ledger, now: float = 0.0, processes: int = 1) -> list[Dispatch]:
    """What goes out now."""
    return list(ledger.dispatch(now, {"cpu": processes}))


def send_one(ledger: Ledger, now: float = 0.0) -> Dispatch:
    """The only bundle that goes out now."""
    (sent,) = send(ledger, now)
    return sent


def only_end(ledger: Ledger) -> End:
    """The only job that has ended."""
    (end,) = ledger.ends()
    return end


def tiles_of(sent: list[Dispatch]) -> list[tuple[int, ...]]:
    """The tiles of each bundle."""
    return [dispatch.bundle.tiles for dispatch in sent]

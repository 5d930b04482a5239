"""The plan of faults: a pure function of seed, length and database. Which process a fault hits is settled when its time comes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What is done, and to what."""

    LEADER_KILLED = "leader killed"
    LEADER_STOPPED = "leader stopped"
    STANDBY_KILLED = "standby killed"
    STANDBY_STOPPED = "standby stopped"
    WORKER_KILLED = "worker killed"
    WORKER_STOPPED = "worker stopped"
    CHILD_KILLED = "worker child killed"
    CHILD_STOPPED = "worker child stopped"
    WEB_KILLED = "web killed"
    WEB_STOPPED = "web stopped"
    REDIS_KILLED = "redis killed"
    REDIS_KILLED_TWICE = "redis killed twice"
    POSTGRES_RESTARTED = "postgres restarted"
    RESULTS_AWAY = "results folder away"


STOPPED = frozenset({Kind.LEADER_STOPPED, Kind.STANDBY_STOPPED, Kind.WORKER_STOPPED, Kind.CHILD_STOPPED, Kind.WEB_STOPPED})
#: Processes that write to the database: on SQLite a stopped one blocks the file for all the others.
WRITERS = frozenset({Kind.LEADER_STOPPED, Kind.STANDBY_STOPPED, Kind.WEB_STOPPED})
#: Of these there is only one: work cannot go on before it is back, so recovery is measured from its return.
AWAY = frozenset({Kind.WEB_KILLED, Kind.REDIS_KILLED, Kind.REDIS_KILLED_TWICE, Kind.POSTGRES_RESTARTED, Kind.RESULTS_AWAY})

STOPPED_S = (1.0, 15.0)
STOPPED_ON_SQLITE_S = (1.0, 3.0)
AWAY_S = (1.0, 6.0)
#: About how long the others take to come back by themselves.
RETURN_S = {Kind.WEB_KILLED: 4.0, Kind.REDIS_KILLED: 1.0, Kind.REDIS_KILLED_TWICE: 3.0, Kind.POSTGRES_RESTARTED: 2.0}
#: Between the end of one fault and the next.
GAP_S = (6.0, 12.0)
FIRST_S = (4.0, 7.0)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault. `at_s` counts from the beginning of the load; `pick` chooses among several processes or ways, modulo their number."""

    at_s: float
    kind: Kind
    #: How long the process is stopped or the folder away; 0 for what comes back by itself.
    lasts_s: float
    pick: int


def draw(seed: int, seconds: float, database: str) -> tuple[Fault, ...]:
    """The faults of a run, in order; every kind comes once before any comes again."""
    rng = random.Random(f"faults of {seed}")
    faults, kinds, at_s = [], _kinds(rng, database), rng.uniform(*FIRST_S)
    while at_s < seconds:
        kind = next(kinds)
        fault = Fault(at_s=round(at_s, 2), kind=kind, lasts_s=_lasting(rng, kind, database), pick=rng.randrange(1000))
        faults.append(fault)
        at_s += fault.lasts_s + RETURN_S.get(kind, 0.0) + rng.uniform(*GAP_S)
    return tuple(fault for fault in faults if fault.at_s + fault.lasts_s < seconds)


def _kinds(rng: random.Random, database: str) -> Iterator[Kind]:
    all_kinds = [kind for kind in Kind if database == "postgres" or kind is not Kind.POSTGRES_RESTARTED]
    while True:
        yield from rng.sample(all_kinds, len(all_kinds))


def _lasting(rng: random.Random, kind: Kind, database: str) -> float:
    if kind is Kind.RESULTS_AWAY:
        return round(rng.uniform(*AWAY_S), 2)
    if kind not in STOPPED:
        return 0.0
    return round(rng.uniform(*(STOPPED_ON_SQLITE_S if database == "sqlite" and kind in WRITERS else STOPPED_S)), 2)

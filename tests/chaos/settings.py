"""What `make chaos` is told by its environment: CHAOS_SEED, CHAOS_SECONDS, CHAOS_DATABASE."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

DATABASES = ("sqlite", "postgres")
SHORTEST_S, LONGEST_S = 20, 24 * 3600


class BadSetting(Exception):
    """A setting that cannot be used; the message names it."""


@dataclass(frozen=True, kw_only=True)
class ChaosSettings:
    """One run."""

    seed: int
    seconds: int
    database: str


def read(environ: Mapping[str, str]) -> ChaosSettings:
    """The settings; a seed is drawn when none is given. Raises BadSetting."""
    database = environ.get("CHAOS_DATABASE") or "sqlite"
    if database not in DATABASES:
        raise BadSetting(f"CHAOS_DATABASE={database!r}: must be {' or '.join(DATABASES)}")
    seconds = _whole(environ, "CHAOS_SECONDS", 600)
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise BadSetting(f"CHAOS_SECONDS={seconds}: must be {SHORTEST_S} to {LONGEST_S}")
    return ChaosSettings(seed=_whole(environ, "CHAOS_SEED", secrets.randbelow(10**6)), seconds=seconds, database=database)


def _whole(environ: Mapping[str, str], name: str, default: int) -> int:
    value = environ.get(name) or str(default)
    if not value.isdecimal():
        raise BadSetting(f"{name}={value!r}: must be a whole number")
    return int(value)

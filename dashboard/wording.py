"""How numbers, durations and times are written. Pure; the same rules stand in static/js/wording.js for what moves live."""

from __future__ import annotations

import math
from datetime import datetime

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400
UNKNOWN = "not known yet"


def duration(seconds: float) -> str:
    """`21s`, `2m 05s`, `1h 04m`, `2d 3h`; rounded down, never negative."""
    whole = max(0, int(seconds))
    if whole < MINUTE_S:
        return f"{whole}s"
    if whole < HOUR_S:
        return f"{whole // MINUTE_S}m {whole % MINUTE_S:02d}s"
    if whole < DAY_S:
        return f"{whole // HOUR_S}h {whole % HOUR_S // MINUTE_S:02d}m"
    return f"{whole // DAY_S}d {whole % DAY_S // HOUR_S}h"


def estimate(seconds: float | None) -> str:
    """A time left: "about …", rounded up to 5 s below a minute, 15 s below ten, else a minute, so that it does not twitch."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    step = 5 if seconds < MINUTE_S else 15 if seconds < 10 * MINUTE_S else MINUTE_S
    return f"about {duration(max(step, math.ceil(seconds / step) * step))}"


def ago(seconds: float) -> str:
    """`just now`, `3m ago`, `2h ago`, `5d ago`."""
    whole = max(0, int(seconds))
    for unit_s, letter in ((DAY_S, "d"), (HOUR_S, "h"), (MINUTE_S, "m")):
        if whole >= unit_s:
            return f"{whole // unit_s}{letter} ago"
    return f"{whole}s ago" if whole >= 5 else "just now"


def percent(fraction: float) -> int:
    """0 to 100, rounded down: 100 only when all is done."""
    return max(0, min(100, math.floor(fraction * 100 + 1e-9)))


def count(number: int | None) -> str:
    """With thousands separators; a dash when not known."""
    return "\u2013" if number is None else f"{number:,}"


def rate(tiles_per_s: float) -> str:
    """`57 tiles/s`, with one decimal below ten."""
    return f"{tiles_per_s:.1f} tiles/s" if tiles_per_s < 10 else f"{tiles_per_s:,.0f} tiles/s"


def plural(number: int, noun: str, plural_noun: str = "") -> str:
    """`1 job`, `2 jobs`."""
    return f"{number:,} {noun if number == 1 else plural_noun or noun + ('es' if noun.endswith('ch') else 's')}"


def size(size_bytes: int) -> str:
    """`912 B`, `14.2 kB`, `3.1 MB` (powers of 1,000)."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    value, unit = size_bytes / 1000, "kB"
    for unit_above in ("MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, unit_above
    return f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"


def moment(text: str | None) -> datetime | None:
    """A time of a body (`2026-01-02T03:04:05.000006Z`)."""
    return None if text is None else datetime.fromisoformat(text)


def seconds_until(time: str, now: datetime) -> float:
    """From now; 0 for what has passed."""
    return max(0.0, (datetime.fromisoformat(time) - now).total_seconds())


def seconds_between(start: str | None, end: str | None, now: datetime) -> float | None:
    """From start to end, or to now while there is no end; None before the start."""
    began = moment(start)
    return None if began is None else max(0.0, ((moment(end) or now) - began).total_seconds())

"""How times are written everywhere: UTC, ISO 8601, always microseconds, so that they sort as text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import overload


@overload
def iso(time: datetime) -> str: ...
@overload
def iso(time: None) -> None: ...
@overload
def iso(time: datetime | None) -> str | None: ...
def iso(time: datetime | None) -> str | None:
    """`2026-01-02T03:04:05.000006Z`, None for None."""
    return None if time is None else time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

"""One row of the event log as a plain value: what the checker reads and the simulator writes. No Django."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class LogEvent:
    """A transition, and who made it by which right. The types and their data: docs/states.md."""

    #: Rises in the order of commit, within a user's work and among the leader's events.
    id: int
    at: datetime
    type: str
    user: int | None = None
    #: UUIDs as text.
    workflow: str | None = None
    job: str | None = None
    #: Of the leader that made it; 0 for the web process.
    term: int = 0
    #: Of the claim; 0 when the job did not run.
    epoch: int = 0
    actor: str = ""
    reason: str = ""
    data: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values; `at` as ISO 8601."""
        return {**asdict(self), "at": self.at.isoformat()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LogEvent:
        """Inverse of to_json."""
        return cls(**{**data, "at": datetime.fromisoformat(data["at"])})

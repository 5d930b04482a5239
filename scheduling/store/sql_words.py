"""States as constants in the SQL text: SQLite takes a partial index only when it can read the index's condition in the query."""

from __future__ import annotations

from typing import Any

from django.db.models import Value

from scheduling import states


class Word(Value):
    """A word of ours, never a user's, written into the SQL in quotes instead of being passed beside it."""

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, list[Any]]:
        """The quoted word, no parameters."""
        if not str(self.value).isalpha():
            raise ValueError(f"{self.value!r} is not a plain word")
        return f"'{self.value}'", []


PENDING = Word(states.JobState.PENDING.value)
RUNNING = Word(states.JobState.RUNNING.value)
#: In the order in which the index `job_unfinished_by_lane` names them.
UNFINISHED = tuple(Word(word) for word in sorted(state.value for state in states.UNFINISHED))

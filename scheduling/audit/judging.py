"""How a rule is written down: a function that says what is wrong with the next event, entered under its name and event types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

from scheduling.audit.facts import Facts, Job, Leader, User, Workflow
from scheduling.audit.log_event import LogEvent

S = TypeVar("S")

#: By so much may the clocks of hosts differ, or a commit follow its event.
SKEW = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """A rule that an event breaks; `message` says what was found and what was expected."""

    rule: str
    #: Id of the event; 0 at the end of the log.
    event: int
    type: str
    message: str
    user: int | None = None
    workflow: str | None = None
    job: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        where = f"event {self.event} {self.type}" if self.event else "at the end"
        about = [
            f"{word} {value}" for word, value in (("user", self.user), ("workflow", self.workflow), ("job", self.job)) if value is not None
        ]
        return f"{self.rule}: {where}{', ' + ', '.join(about) if about else ''}: {self.message}"


#: What a rule is called with: the facts before the event, the event, and what it is about. None: nothing is wrong.
Judge = Callable[[Facts, LogEvent, S], str | None]


class Rules(Generic[S]):
    """Rules about one kind of subject, by event type."""

    def __init__(self) -> None:
        self.by_type: dict[str, list[tuple[str, Judge[S]]]] = {}

    def on(self, *types: str) -> Callable[[Judge[S]], Judge[S]]:
        """Enter a function as a rule; its name, with dashes, is the rule's."""

        def enter(judge: Judge[S]) -> Judge[S]:
            for kind in types:
                self.by_type.setdefault(kind, []).append((judge.__name__.replace("_", "-"), judge))
            return judge

        return enter

    @property
    def names(self) -> set[str]:
        """The names of all rules."""
        return {name for rules in self.by_type.values() for name, _ in rules}


leader_rules: Rules[Leader] = Rules()
job_rules: Rules[Job] = Rules()
#: A job.submitted is judged here: its job is not there yet.
workflow_rules: Rules[Workflow] = Rules()
user_rules: Rules[User] = Rules()

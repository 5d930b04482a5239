"""The dispatcher: finds what an event is about, lets the rules of its type judge it, then tells the facts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import TypeVar

from scheduling.audit import telling
from scheduling.audit.ending import judge_end
from scheduling.audit.facts import Facts, Gone, Job, Workflow
from scheduling.audit.judging import Rules, Violation
from scheduling.audit.log_event import LogEvent
from scheduling.audit.rules import job_rules, leader_rules, user_rules, workflow_rules
from scheduling.audit.words import ABOUT_WORK, KNOWN, TRIMMED

S = TypeVar("S")

#: Judged by the dispatcher itself, since they are about what the other rules need.
OWN_RULES = frozenset({"ids-rise", "known-words", "readable", "known-job", "known-workflow", "settled"})
END_RULES = frozenset({"all-finished", "slot-given-up", "nobody-forgotten", "status-told", "rows-agree"})
RULES = OWN_RULES | END_RULES | leader_rules.names | job_rules.names | workflow_rules.names | user_rules.names

#: Events this soon after the mark of a trimming may have neighbours that were removed.
MARGIN = timedelta(seconds=10)


class Checker:
    """Reads one log. `is_partial`: it does not begin at the beginning; `complete_from`: nothing at or after this time was removed.

    Before `complete_from` the log is taken at face value, and so is whatever is met for the first time in a partial log.
    """

    def __init__(self, *, is_partial: bool = False, complete_from: datetime | None = None) -> None:
        self.facts = Facts(is_partial=is_partial or complete_from is not None)
        self.events = 0
        self.last_at: datetime | None = None
        self.last_id = 0
        self._led_at: datetime | None = None
        self._quiet_until = complete_from + MARGIN if complete_from is not None else None

    def feed(self, event: LogEvent) -> list[Violation]:
        """Judge the next event and take it in."""
        found = list(self._own(event))
        self.events += 1
        self.last_at = event.at
        self.last_id = max(self.last_id, event.id)
        if event.term:
            self._led_at = event.at
        if self._quiet_until is not None and event.at >= self._quiet_until:
            self._quiet_until = None
        if event.type == TRIMMED:
            self.facts.is_partial = True
        if event.type not in KNOWN:
            return found
        try:
            found += self._about(event)
        except (KeyError, TypeError, ValueError, AssertionError) as error:
            found.append(_violation("readable", event, f"the event lacks what its type needs: {error!r}"))
        return found if self._quiet_until is None else []

    def read(self, events: Iterable[LogEvent]) -> Iterator[Violation]:
        """Feed all of these."""
        for event in events:
            yield from self.feed(event)

    def finish(self, *, must_be_finished: bool = False) -> list[Violation]:
        """What is wrong now that the log is at its end; with `must_be_finished` anything unfinished is."""
        return list(judge_end(self.facts, led_at=self._led_at, must_be_finished=must_be_finished))

    # -- inside

    def _own(self, event: LogEvent) -> Iterator[Violation]:
        if event.id <= self.last_id:
            yield _violation("ids-rise", event, f"an id above {self.last_id} was expected")
        if event.type not in KNOWN and event.type.startswith(ABOUT_WORK):
            yield _violation("known-words", event, "no such type of event is known")

    def _about(self, event: LogEvent) -> list[Violation]:
        facts = self.facts
        if self._is_first_of_leader(event):
            facts.leader.term = event.term
        if event.user is not None:
            facts.note(facts.user(event.user), event.at)
        found = _judged(leader_rules, facts, event, facts.leader)
        match event.type.partition(".")[0]:
            case "leader":
                telling.tell_leader(facts, event, facts.leader)
            case "scheduler":
                telling.tell_operator(facts, event)
            case "user" if event.user is not None:
                user = facts.user(event.user)
                found += _judged(user_rules, facts, event, user)
                telling.tell_user(facts, event, user)
            case "workflow":
                found += self._of_workflow(event, telling.tell_workflow)
            case "job" if event.type == "job.submitted":
                found += self._of_workflow(event, telling.submit)
            case "job":
                found += self._of_job(event)
        return found

    def _is_first_of_leader(self, event: LogEvent) -> bool:
        """Whether the log shows a term whose election was removed from it, or came before it."""
        is_missing = self._quiet_until is not None or (self.facts.is_partial and not self.facts.terms)
        return is_missing and event.type != "leader.elected" and event.term > self.facts.leader.term

    def _of_workflow(self, event: LogEvent, tell: Callable[[Facts, LogEvent, Workflow], None]) -> list[Violation]:
        found, workflow = self._workflow(event)
        if workflow is not None:
            found += _judged(workflow_rules, self.facts, event, workflow)
            tell(self.facts, event, workflow)
        return found

    def _workflow(self, event: LogEvent) -> tuple[list[Violation], Workflow | None]:
        """The workflow of an event; made when it is new."""
        assert event.workflow is not None
        found: list[Violation] = []
        workflow = self.facts.workflows.get(event.workflow)
        if isinstance(workflow, Gone):
            return self._gone(event, workflow), None
        is_new = event.type == "workflow.submitted"
        if workflow is not None and is_new:
            found.append(_violation("known-workflow", event, "the workflow was submitted before"))
        if workflow is None:
            if not is_new and not self.facts.is_partial:
                found.append(_violation("known-workflow", event, "no such workflow was submitted"))
            workflow = telling.adopt_workflow(self.facts, event)
        return found, workflow

    def _gone(self, event: LogEvent, why: Gone) -> list[Violation]:
        """What has SUCCEEDED may be deleted, once; nothing else happens to it."""
        if event.type == "workflow.deleted" and why is Gone.SUCCEEDED and event.workflow is not None:
            self.facts.workflows[event.workflow] = Gone.DELETED
            return []
        return [_violation("settled", event, f"its workflow {why.value}, so nothing more was expected")]

    def _of_job(self, event: LogEvent) -> list[Violation]:
        assert event.job is not None
        found: list[Violation] = []
        job = self.facts.jobs.get(event.job)
        if isinstance(job, Gone):
            return self._gone(event, job)
        if job is None:
            found, job = self._unknown_job(event)
        if job is not None:
            found += _judged(job_rules, self.facts, event, job)
            telling.OF_JOB[event.type](self.facts, event, job)
            job.told = event.id
        return found

    def _unknown_job(self, event: LogEvent) -> tuple[list[Violation], Job | None]:
        found, workflow = self._workflow(event)
        if workflow is None:
            return found, None
        if not self.facts.is_partial:
            found.append(_violation("known-job", event, "no such job was submitted"))
        return found, telling.adopt_job(self.facts, event, workflow)


def _judged(rules_of: Rules[S], facts: Facts, event: LogEvent, subject: S) -> list[Violation]:
    judges = rules_of.by_type.get(event.type, ())
    return [_violation(name, event, message) for name, judge in judges if (message := judge(facts, event, subject)) is not None]


def _violation(rule: str, event: LogEvent, message: str) -> Violation:
    return Violation(rule=rule, event=event.id, type=event.type, message=message, user=event.user, workflow=event.workflow, job=event.job)

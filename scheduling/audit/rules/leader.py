"""Rules of terms and epochs: who may write, by which right."""

from __future__ import annotations

from scheduling.audit.facts import Facts, Job, Leader
from scheduling.audit.judging import job_rules, leader_rules
from scheduling.audit.log_event import LogEvent
from scheduling.audit.words import KNOWN, OF_LEADER, OF_OTHERS
from scheduling.states import JobState

#: The actor of every event of a leader.
SCHEDULER = "scheduler"


@leader_rules.on(*KNOWN - {"leader.elected"})
def term_of_leader(facts: Facts, event: LogEvent, leader: Leader) -> str | None:
    """What a leader writes has the term of the one elected last; what the web process writes has none."""
    if event.term == 0:
        return f"only a leader writes {event.type}, so a term was expected" if event.type in OF_LEADER else None
    if event.type in OF_OTHERS:
        return f"no leader writes {event.type}, so term 0 was expected, not {event.term}"
    if event.actor != SCHEDULER:
        return f"only the scheduler writes under a term, not {event.actor}"
    if event.term != leader.term:
        return f"term {leader.term} was expected, that of the leader elected last, not {event.term}"
    return f"the leader of term {event.term} has resigned" if leader.has_resigned else None


@leader_rules.on("leader.elected")
def terms_rise(facts: Facts, event: LogEvent, leader: Leader) -> str | None:
    """Each leader has a higher term than the one before."""
    return f"a term above {leader.term} was expected, not {event.term}" if event.term <= leader.term else None


@leader_rules.on("leader.elected", "leader.queues")
def queues_as_told(facts: Facts, event: LogEvent, leader: Leader) -> str | None:
    """A leader begins with the queues that slots were given for before it, and says so when they change."""
    if leader.queues is None or "queues" not in event.data:
        return None
    has_changed = frozenset(event.data["queues"]) != leader.queues
    if has_changed is (event.type == "leader.queues"):
        return None
    return f"{'queues' if has_changed else 'other queues than'} {', '.join(sorted(leader.queues))} were expected"


@job_rules.on("job.started", "job.taken_over")
def epochs_rise(facts: Facts, event: LogEvent, job: Job) -> str | None:
    """Every claim has an epoch above all before it."""
    last = facts.leader.epoch
    return f"an epoch above {last} was expected, not {event.epoch}" if event.epoch <= last else None


@job_rules.on("job.taken_back", "job.finished", "job.cancel_requested", "job.retried")
def epoch_of_claim(facts: Facts, event: LogEvent, job: Job) -> str | None:
    """What ends a claim has that claim's epoch; what happens to a job without one has none."""
    is_end = event.type in {"job.taken_back", "job.finished"}
    expected = job.epoch if is_end and job.state is JobState.RUNNING else 0
    if is_end and job.state is JobState.RUNNING and not job.epoch:
        return None  # claimed before the log begins
    if event.epoch != expected:
        return f"epoch {expected} was expected, not {event.epoch}"
    return "a running job is ended by a leader alone" if expected and event.term == 0 else None

"""Rules of lanes: one job at a time, in order of submission."""

from __future__ import annotations

from scheduling.audit.facts import Facts, Job
from scheduling.audit.judging import job_rules
from scheduling.audit.log_event import LogEvent


@job_rules.on("job.started")
def one_running_per_lane(facts: Facts, event: LogEvent, job: Job) -> str | None:
    """A lane has at most one RUNNING job."""
    lane = facts.lanes.get(job.lane)
    return f"lane {job.lane} has a running job already" if lane is not None and lane.running else None


@job_rules.on("job.started")
def fifo_in_lane(facts: Facts, event: LogEvent, job: Job) -> str | None:
    """No job that was submitted earlier waits in the lane: a paused, blocked or retried job holds its place."""
    lane = facts.lanes.get(job.lane)
    first = lane.first() if lane is not None else None
    if first is None or job.order is None or first.order is None or first.order >= job.order:
        return None
    return f"job {first.name} ({first.uuid}, order {first.order}) waits before it in lane {job.lane}"

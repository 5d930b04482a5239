"""The rules, by what they judge. Each is a function of the facts before an event and the event; its name and docstring are the rule."""

from __future__ import annotations

from scheduling.audit.judging import job_rules, leader_rules, user_rules, workflow_rules
from scheduling.audit.rules import jobs, lanes, leader, places, slots, tiles, workflows

__all__ = [
    "job_rules",
    "jobs",
    "lanes",
    "leader",
    "leader_rules",
    "places",
    "slots",
    "tiles",
    "user_rules",
    "workflow_rules",
    "workflows",
]

"""The types of events, by who may write them."""

from __future__ import annotations

#: Made by the leader alone, under its term.
OF_LEADER = frozenset(
    {
        "leader.elected",
        "leader.resigned",
        "leader.queues",
        "job.started",
        "job.taken_over",
        "job.taken_back",
        "user.admitted",
        "user.released",
        "user.requeued",
        "workflow.started",
    }
)
#: Made for a user by the web process, term 0.
OF_WEB = frozenset(
    {
        "workflow.submitted",
        "workflow.reopened",
        "workflow.paused",
        "workflow.resumed",
        "workflow.deleted",
        "job.submitted",
        "job.cancel_requested",
        "job.retried",
    }
)
OF_BOTH = frozenset({"workflow.finished", "job.finished", "user.waiting", "user.left_queue"})
#: Made when the operator stops new work before a deploy, and lets it go on; term 0.
OF_OPERATOR = frozenset({"scheduler.draining", "scheduler.resumed"})
#: Not made by a leader.
OF_OTHERS = OF_WEB | OF_OPERATOR
KNOWN = OF_LEADER | OF_OTHERS | OF_BOTH
#: An event that begins so is about work and must be understood; others (of housekeeping, say) change none.
ABOUT_WORK = ("job.", "user.", "workflow.", "leader.")
TRIMMED = "log.trimmed"

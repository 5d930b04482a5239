"""Rules of slots: who is active, who waits, and in which order users are admitted."""

from __future__ import annotations

from datetime import datetime

from scheduling.audit.facts import Facts, User
from scheduling.audit.judging import SKEW, user_rules
from scheduling.audit.log_event import LogEvent

_HOLDS = {"user.released", "user.requeued"}
_WAITS = {"user.admitted", "user.left_queue"}


@user_rules.on("user.waiting", *_HOLDS, *_WAITS)
def queue_moves(facts: Facts, event: LogEvent, user: User) -> str | None:
    """A user begins to wait with neither slot nor place in the queue, is admitted from the queue, and gives up what it has."""
    if not user.is_known:
        return None
    if event.type == "user.waiting" and (user.has_slot or user.waiting_since is not None):
        return "the user has a slot already" if user.has_slot else "the user waits already"
    if event.type in _HOLDS and not user.has_slot:
        return "the user has no slot to give up"
    if event.type in _WAITS and user.waiting_since is None:
        return "the user does not wait"
    return None


@user_rules.on("user.waiting", "user.admitted")
def work_to_wait_for(facts: Facts, event: LogEvent, user: User) -> str | None:
    """Only a user with unfinished work that is not paused waits for a slot, and only one whose work can run gets one."""
    if facts.is_partial:
        return None
    if not user.open:
        return "the user has no unfinished work that is not paused"
    return None if event.type == "user.waiting" or facts.can_run(user) else f"none of the user's {user.open} jobs can run"


@user_rules.on("user.left_queue")
def left_with_nothing(facts: Facts, event: LogEvent, user: User) -> str | None:
    """A user leaves the queue only when there is nothing to wait for."""
    return f"{user.open} jobs of the user wait for a slot" if user.open else None


@user_rules.on("user.admitted")
def at_most_max_users(facts: Facts, event: LogEvent, user: User) -> str | None:
    """No more users are active than there are slots."""
    limit = facts.leader.max_active_users
    return f"{len(facts.active)} users have a slot already, {limit} may" if limit is not None and len(facts.active) >= limit else None


@user_rules.on("user.admitted")
def fifo_of_admission(facts: Facts, event: LogEvent, user: User) -> str | None:
    """The user who has waited longest is admitted first (equal times: the lower key), but for those of whose work nothing can run.

    A user of whom, or of whose first work that can run, the log learned within the last second is passed over without blame, since the leader may not have seen that
    commit; so is one whose tenure ended in the same look, who stands behind those that made it end.
    """
    if user.waiting_since is None:
        return None
    told = datetime.fromisoformat(event.data["waited_since"])
    if told != user.waiting_since:
        return f"the user waits since {user.waiting_since.isoformat()}, not {told.isoformat()}"
    mine = (user.waiting_since, user.key)
    for other in facts.queue.values():
        since = other.waiting_since
        if since is not None and (since, other.key) < mine and _is_seen(other, event) and facts.can_run(other):
            return f"user {other.key} has waited longer, since {since.isoformat()}"
    return None


def _is_seen(user: User, event: LogEvent) -> bool:
    """Whether the user waited already, with work that can run, when the leader looked at the queue."""
    if user.stuck_at is not None and user.stuck_at >= event.at - SKEW:
        return False
    if user.told_waiting_at is None:  # sent back by a leader, perhaps in this very look
        return user.waiting_since != datetime.fromisoformat(event.data["since"])
    return user.told_waiting_at < event.at - SKEW


@user_rules.on("user.released")
def slot_kept_while_needed(facts: Facts, event: LogEvent, user: User) -> str | None:
    """A slot is kept as long as something of the user runs or can run: is not paused, waits for no other job, and has workers."""
    return f"some of the user's {user.open} unfinished jobs can run" if facts.can_run(user) else None


@user_rules.on("user.released", "user.requeued")
def slot_kept_while_running(facts: Facts, event: LogEvent, user: User) -> str | None:
    """A slot follows its last running job: nothing of a user without a slot runs."""
    is_early = event.type == "user.released" and facts.can_run(user)
    return f"{user.running} jobs of the user run" if user.running and not is_early else None


@user_rules.on("user.requeued")
def tenure_is_over(facts: Facts, event: LogEvent, user: User) -> str | None:
    """A user queues again only after the slot's tenure, and only when more users want slots than there are."""
    tenure_s, slots = facts.leader.slot_max_s, facts.leader.max_active_users
    since = datetime.fromisoformat(event.data["since"])
    if tenure_s is not None and user.slot_since is not None:
        held_s = (since - user.slot_since).total_seconds()
        if tenure_s <= 0 or held_s < tenure_s - SKEW.total_seconds():
            return f"the slot was held for {held_s:.3f} s of {tenure_s:g} s" if tenure_s > 0 else "slots have no tenure"
    # Who was sent back in the same look does not count: told by the leader, since the same moment.
    waiting = sum(other.waiting_since != since or other.told_waiting_at is not None for other in facts.queue.values())
    if slots is not None and not facts.is_partial and waiting + len(facts.active) <= slots:
        return f"{waiting} users wait and {len(facts.active)} of {slots} slots are taken, so nobody waits in vain"
    return None

"""Reads of the event log of one workflow: oldest first, a page at a time, from where a reader left off."""

from __future__ import annotations

from typing import Any

from scheduling.models import Event, Workflow
from scheduling.selectors.times import iso


def workflow_events(workflow: Workflow, *, after: int, limit: int) -> tuple[list[dict[str, Any]], bool]:
    """At most `limit` events with an id above `after`, and whether there are more by now.

    Whoever writes about a workflow holds its owner's row, so ids are handed out in the order of commit: once an event can be
    read, none with a lower id is still to come, and nothing is missed by going on from the last id seen.
    """
    rows = list(Event.objects.filter(workflow_uuid=workflow.uuid, id__gt=after).order_by("id")[: limit + 1])
    return [event_body(event) for event in rows[:limit]], len(rows) > limit


def event_body(event: Event) -> dict[str, Any]:
    """One entry of GET /workflow/{workflow_id}/events."""
    return {
        "id": event.pk,
        "at": iso(event.at),
        "type": event.type,
        "actor": event.actor,
        "reason": event.reason,
        "term": event.term,
        "epoch": event.epoch,
        "job_id": event.data.get("job_id"),
        "job": str(event.job_uuid) if event.job_uuid else None,
        "data": event.data,
    }

"""Messages to the browser, sent on commit over the channel layer. A lost message costs freshness, never truth.

Groups: `user.<key>` gets what happens to that user's work, `queue` what happens to slots and workers. A message says what
changed, not how: consumers read the state again through selectors; only progress travels as numbers, being too frequent to read.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, wait
from functools import cache
from typing import Literal, TypedDict
from uuid import UUID

from channels.layers import get_channel_layer
from django.db import transaction
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

QUEUE_GROUP = "queue"
#: What is being sent.
_under_way: set[Future[None]] = set()


class WorkflowsChanged(TypedDict):
    """Jobs or workflows of one user changed state, or workflows are new or gone."""

    type: Literal["live.workflows"]
    workflows: list[str]


class JobProgress(TypedDict):
    """Tiles of one job."""

    id: str
    attempt: int
    tiles_processed: int
    tiles_total: int | None


class ProgressMade(TypedDict):
    """Tiles were finished in jobs of one workflow."""

    type: Literal["live.progress"]
    workflow: str
    jobs: list[JobProgress]


class QueueChanged(TypedDict):
    """Slots, waiting users or workers changed."""

    type: Literal["live.queue"]


Message = WorkflowsChanged | ProgressMade | QueueChanged


def user_group(user_key: int) -> str:
    """The group of one user's work."""
    return f"user.{user_key}"


def workflow_changed(user_key: int, workflow: UUID) -> None:
    """Tell, after commit, that something in this workflow changed."""
    workflows_changed([(user_key, workflow)])


def workflows_changed(changed: Iterable[tuple[int, UUID]]) -> None:
    """Tell, after commit, that something in these workflows (user, workflow) changed: one message a user, however many there are."""
    by_user: dict[int, list[str]] = {}
    for user_key, workflow in changed:
        by_user.setdefault(user_key, []).append(str(workflow))
    messages: list[tuple[str, Message]] = [
        (user_group(user_key), WorkflowsChanged(type="live.workflows", workflows=workflows)) for user_key, workflows in by_user.items()
    ]
    transaction.on_commit(lambda: publish(messages), robust=True)


def queue_changed() -> None:
    """Tell, after commit, that slots, waiting users or workers changed."""
    message: QueueChanged = {"type": "live.queue"}
    transaction.on_commit(lambda: publish([(QUEUE_GROUP, message)]), robust=True)


def progress_made(user_key: int, workflow: UUID, jobs: list[JobProgress]) -> None:
    """Tell at once how many tiles of a workflow's jobs are finished; not tied to a transaction."""
    progress_of_many({(user_key, workflow): jobs})


def progress_of_many(made: Mapping[tuple[int, UUID], list[JobProgress]]) -> None:
    """As progress_made, of jobs of several workflows, by user and workflow."""
    messages: list[tuple[str, Message]] = [
        (user_group(user_key), ProgressMade(type="live.progress", workflow=str(workflow), jobs=jobs))
        for (user_key, workflow), jobs in made.items()
    ]
    publish(messages)


def publish(messages: Iterable[tuple[str, Message]]) -> None:
    """Send without waiting; Redis away is logged, nothing is raised."""
    listed = list(messages)
    if not listed:
        return
    sending = asyncio.run_coroutine_threadsafe(_send(listed), _loop())
    _under_way.add(sending)
    sending.add_done_callback(_under_way.discard)


async def _send(messages: list[tuple[str, Message]]) -> None:
    layer = get_channel_layer()
    assert layer is not None
    try:
        for group, message in messages:
            await layer.group_send(group, dict(message))
    except (OSError, RedisError) as error:
        logger.warning("live messages were not sent: %s", error, extra={"action": "live_not_sent", "count": len(messages)})


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """One background loop a process: the layer keeps its Redis connection there, and no caller waits for it."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="live-publisher", daemon=True).start()
    return loop


def flush(timeout_s: float = 2.0) -> None:
    """Wait until what was published before is sent; for a process that is about to end, and for tests."""
    wait(list(_under_way), timeout=timeout_s)

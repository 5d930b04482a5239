"""Messages to the browser: sent on commit over the real channel layer, to the owner's group and the queue's."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from channels.layers import get_channel_layer
from django.db import transaction

from scheduling.live import updates
from scheduling.services.workflows import workflow_cancel
from tests.integration.working import lead, new_user, submit

pytestmark = pytest.mark.django_db(transaction=True)

WORKFLOW = UUID(int=7)
LAST = "the last"


class Listener:
    """Hears what is sent to some groups, on a loop of its own, as a consumer would."""

    def __init__(self, *groups: str) -> None:
        self._groups = groups
        self._heard: queue.Queue[dict[str, Any]] = queue.Queue()
        self._is_ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._listen()))
        self._thread.start()
        self._is_ready.wait()

    async def _listen(self) -> None:
        layer = get_channel_layer()
        channel = await layer.new_channel()
        for group in self._groups:
            await layer.group_add(group, channel)
        self._is_ready.set()
        while (message := await layer.receive(channel))["type"] != LAST:
            self._heard.put(message)
        await layer.flush()

    def end(self) -> list[dict[str, Any]]:
        """All that was heard."""
        updates.flush()
        updates.publish([(self._groups[0], {"type": LAST})])  # type: ignore[list-item,misc]
        self._thread.join()
        return list(self._heard.queue)


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    """Start listeners; all have ended when the test has."""
    listeners: list[Listener] = []

    def start(*groups: str) -> Listener:
        listeners.append(Listener(*groups))
        return listeners[-1]

    yield start
    for listener in listeners:
        listener.end()


def test_a_change_is_told_to_its_owner_alone_and_after_the_commit(listen: Callable[..., Listener]) -> None:
    mine, theirs = listen(updates.user_group(1)), listen(updates.user_group(2))
    with transaction.atomic():
        updates.workflow_changed(1, WORKFLOW)
        updates.flush()
        assert mine._heard.empty()
    assert mine.end() == [{"type": "live.workflows", "workflows": [str(WORKFLOW)]}]
    assert theirs.end() == []


def test_what_is_rolled_back_is_not_told(listen: Callable[..., Listener]) -> None:
    listener = listen(updates.user_group(1), updates.QUEUE_GROUP)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        updates.workflow_changed(1, WORKFLOW)
        updates.queue_changed()
        raise ZeroDivisionError
    assert listener.end() == []


def test_progress_is_told_at_once_with_its_numbers(listen: Callable[..., Listener]) -> None:
    listener = listen(updates.user_group(1))
    job = updates.JobProgress(id="uuid", attempt=2, tiles_processed=3, tiles_total=20)
    with transaction.atomic():
        updates.progress_made(1, WORKFLOW, [job])
        updates.flush()
    assert listener.end() == [
        {
            "type": "live.progress",
            "workflow": str(WORKFLOW),
            "jobs": [{"id": "uuid", "attempt": 2, "tiles_processed": 3, "tiles_total": 20}],
        }
    ]


def test_a_submission_a_start_and_a_cancel_are_told_to_owner_and_queue(listen: Callable[..., Listener]) -> None:
    alice = new_user()
    listener = listen(updates.user_group(alice.pk), updates.QUEUE_GROUP)
    workflow = submit(alice, "j1", "j2 b2")
    lead().settle()
    workflow_cancel(workflow=workflow, actor="alice")
    kinds = [message["type"] for message in listener.end()]
    assert set(kinds) == {"live.workflows", "live.queue"}
    assert kinds.count("live.workflows") >= 3


def test_flush_waits_until_everything_before_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[object] = []

    async def slowly(messages: list[object]) -> None:
        for message in messages:
            for _ in range(20):
                await asyncio.sleep(0)
            sent.append(message)

    monkeypatch.setattr(updates, "_send", slowly)
    for n in range(30):
        updates.publish([(str(n), {"type": "live.queue"})])
    updates.flush()
    assert len(sent) == 30


def test_a_layer_that_is_away_is_logged_and_nothing_is_raised(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    class Away:
        async def group_send(self, group: str, message: dict[str, Any]) -> None:
            raise ConnectionError("away")

    monkeypatch.setattr(updates, "get_channel_layer", Away)
    updates.progress_made(1, WORKFLOW, [])
    updates.flush()
    assert "live messages were not sent: away" in caplog.text

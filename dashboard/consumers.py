"""The live socket: snapshot, then at most one delta that the client has not acknowledged. Reads only; changes go by HTTP.

Close codes: 4400 malformed · 4401 not signed in · 4404 not yours or not there · 4408 no acknowledgement for 30 s · 4409 frame too long ·
4411 failed here · 4413 no live messages to be had now, come back. (Of the registered codes a server's application may send 1000 alone.)
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import InterfaceError, OperationalError
from django.utils import timezone
from redis.exceptions import RedisError

from dashboard import handshake
from dashboard.feeds import Feed, UnknownTopic, is_topic_name, open_topic
from dashboard.live import Flow
from scheduling.errors import NotFound
from scheduling.models import User
from scheduling.selectors.times import iso

logger = logging.getLogger(__name__)

FAILED, TOO_LONG, COME_BACK, MALFORMED, SIGNED_OUT, NOT_FOUND, NO_ACK = 4411, 4409, 4413, 4400, 4401, 4404, 4408
#: What the channel layer raises while Redis is away.
AWAY = (OSError, RedisError)
#: What a database that is away or stays locked adds to it.
UNAVAILABLE = (*AWAY, OperationalError, InterfaceError)
MAX_FRAME_CHARACTERS = 4096
MAX_TOPICS = 8
#: At most ten deltas a second.
FRAME_GAP_S = 0.1
PING_S = 15.0
ACK_PATIENCE_S = 30.0
#: Between two looks at whether the user is still signed in.
IDENTITY_S = 60.0
#: How long a client that is not signed in may stay silent before it is told.
GREETING_S = 5.0


class LiveConsumer(AsyncWebsocketConsumer):
    """One socket of one page or program."""

    user: User | None = None
    _pump: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Accept everybody whose Origin is right: a browser sees the code of a close only after that."""
        try:
            self.user = await database_sync_to_async(handshake.user_of)(self.scope)
        except handshake.Refused as error:
            logger.info("socket refused: %s", error, extra={"action": "socket_refused"})
            await self.close()
            return
        except UNAVAILABLE as error:
            await self.accept()
            await self._ask_back(error)
            return
        self.feeds: dict[str, Feed] = {}
        self.flow = Flow(ACK_PATIENCE_S)
        self._wake, self._busy = asyncio.Event(), asyncio.Lock()
        await self.accept()
        self._pump = asyncio.create_task(self._run() if self.user else self._greet())

    async def disconnect(self, code: int) -> None:
        """Stop; no more groups."""
        if self._pump is not None:
            self._pump.cancel()
        for group in {group for feed in getattr(self, "feeds", {}).values() for group in feed.topic.groups}:
            with suppress(*AWAY):
                await self.channel_layer.group_discard(group, self.channel_name)

    # ---- what the client says -------------------------------------------------------------------------------------------

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """One frame of the client."""
        if self.user is None:
            await self.close(SIGNED_OUT)
        elif text_data is None or len(text_data) > MAX_FRAME_CHARACTERS:
            await self.close(MALFORMED if text_data is None else TOO_LONG)
        elif not await self._obey(self.user, text_data):
            await self.close(MALFORMED)

    async def _obey(self, user: User, text: str) -> bool:
        """Carry out a message; False when it is malformed."""
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            return False
        match message:
            case {"t": "ack", "seq": int(number)} if not isinstance(number, bool):
                self._wake.set()
                return self.flow.acknowledge(number)
            case {"t": "resync"}:
                for feed in list(self.feeds.values()):
                    await self._snapshot(feed)
                return True
            case {"t": "sub", "topic": topic} if is_topic_name(topic) and (topic in self.feeds or len(self.feeds) < MAX_TOPICS):
                return await self._subscribe(user, topic)
        return False

    async def _subscribe(self, user: User, name: str) -> bool:
        try:
            topic = await database_sync_to_async(open_topic)(name, user, self._meta())
            for group in topic.groups:
                # Before the read: what changes between the two is then told, not lost.
                await self.channel_layer.group_add(group, self.channel_name)
            body = await database_sync_to_async(topic.read)()
        except UnknownTopic:
            return False
        except NotFound:
            await self.close(NOT_FOUND)
            return True
        except UNAVAILABLE as error:
            await self._ask_back(error)
            return True
        feed = self.feeds[name] = Feed.started(topic, body, self._now())
        async with self._busy:
            await self._send_snapshot(feed)
        self._wake.set()
        return True

    async def _snapshot(self, feed: Feed) -> None:
        async with self._busy:
            if await self._read(feed):
                await self._send_snapshot(feed)

    def _meta(self) -> dict[str, str]:
        """The request headers that the links of a body depend on, as Django names them."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self.scope["headers"]}
        return {f"HTTP_{name.upper().replace('-', '_')}": headers[name] for name in ("host", "x-forwarded-proto") if name in headers}

    # ---- what the server says -------------------------------------------------------------------------------------------

    async def live_workflows(self, event: dict[str, Any]) -> None:
        """Jobs or workflows changed state."""
        for feed in self.feeds.values():
            for workflow in event["workflows"]:
                feed.workflow_changed(workflow, self._now())
        self._wake.set()

    async def live_queue(self, event: dict[str, Any]) -> None:
        """Slots, waiting users or workers changed."""
        for feed in self.feeds.values():
            feed.queue_changed(self._now())
        self._wake.set()

    async def live_progress(self, event: dict[str, Any]) -> None:
        """Tiles were finished."""
        for feed in self.feeds.values():
            feed.progress_made(event["workflow"], event["jobs"], self._now())
        self._wake.set()

    async def _greet(self) -> None:
        """Tell a client that is not signed in, also when it says nothing."""
        await asyncio.sleep(GREETING_S)
        await self.close(SIGNED_OUT)

    async def _ask_back(self, error: Exception) -> None:
        logger.warning("a socket cannot be served now: %s", error, extra={"action": "socket_unavailable"})
        await self.close(COME_BACK)

    async def _run(self) -> None:
        """Until the socket closes: read what is due, send what changed, keep an eye on the client."""
        try:
            await self._loop()
        except UNAVAILABLE as error:
            await self._ask_back(error)
        except Exception:
            logger.exception("a live socket failed", extra={"action": "socket_failed"})
            await self.close(FAILED)

    async def _loop(self) -> None:
        send_s = self._now()
        ping_s, identity_s = send_s + PING_S, send_s + IDENTITY_S
        while True:
            now = self._now()
            if (deadline := self.flow.deadline_s()) is not None and now >= deadline:
                await self.close(NO_ACK)
                return
            if now >= ping_s:
                ping_s = now + PING_S
                await self._send({"t": "ping", "now": iso(timezone.now())})
            if now >= identity_s:
                identity_s = now + IDENTITY_S
                if not await self._is_still_signed_in():
                    await self.close(SIGNED_OUT)
                    return
            async with self._busy:
                if not await self._read_due():
                    return
                if self.flow.is_open and self._now() >= send_s and await self._send_change():
                    send_s = self._now() + FRAME_GAP_S
            await self._rest([ping_s, identity_s, *([send_s] if self._may_send() else [])])

    def _may_send(self) -> bool:
        return self.flow.is_open and any(feed.picture.is_stale for feed in self.feeds.values())

    async def _rest(self, times_s: list[float]) -> None:
        """Until something happens or the next thing is due."""
        times_s += [feed.pace.due_s for feed in self.feeds.values()]
        if (deadline := self.flow.deadline_s()) is not None:
            times_s.append(deadline)
        try:
            await asyncio.wait_for(self._wake.wait(), max(0.0, min(times_s) - self._now()))
        except TimeoutError:
            return
        self._wake.clear()

    async def _read_due(self) -> bool:
        """Read again the topics whose time has come; False when the socket was closed."""
        for feed in list(self.feeds.values()):
            if self._now() >= feed.pace.due_s and not await self._read(feed):
                return False
        return True

    async def _read(self, feed: Feed) -> bool:
        """Read a topic again; False when it is gone and the socket was closed."""
        feed.pace.was_read(self._now())
        try:
            body = await database_sync_to_async(feed.topic.read)()
        except NotFound:
            await self.close(NOT_FOUND)
            return False
        feed.picture.take_read(body)
        return True

    async def _is_still_signed_in(self) -> bool:
        try:
            user = await database_sync_to_async(handshake.user_of)(self.scope)
        except handshake.Refused:
            return False
        return user is not None and user == self.user and user.is_staff == self.user.is_staff

    async def _send_change(self) -> bool:
        """Send one frame for one topic that changed; topics take turns. False when there is nothing to send."""
        for name, feed in list(self.feeds.items()):
            if not feed.picture.is_stale:
                continue
            changes = feed.picture.changes()
            if changes == {}:
                continue
            self.feeds[name] = self.feeds.pop(name)
            if changes is None:
                await self._send_snapshot(feed)
            else:
                await self._send({"t": "delta", "topic": name, "seq": self.flow.number(self._now()), **changes})
            return True
        return False

    async def _send_snapshot(self, feed: Feed) -> None:
        await self._send({"t": "snap", "topic": feed.topic.name, "seq": self.flow.number(self._now()), "data": feed.picture.snapshot()})

    async def _send(self, frame: dict[str, Any]) -> None:
        await self.send(json.dumps(frame, separators=(",", ":")))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


class NoSuchSocket(AsyncWebsocketConsumer):
    """Any other websocket path."""

    async def connect(self) -> None:
        """Refuse."""
        await self.close()

"""The live socket as its clients see it, over the real channel layer on Redis."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.layers import channel_layers
from channels.testing import WebsocketCommunicator
from django.db import OperationalError
from django.test import Client
from rest_framework.authtoken.models import Token

from dashboard import consumers, feeds
from dashboard.routing import websocket
from scheduling.live import updates
from scheduling.models import Job, User, Workflow
from scheduling.selectors.queue import queue_body
from scheduling.selectors.workflows import workflow_body
from tests.integration.dashboard.conftest import Submit
from tests.support.redis_server import RedisServer
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.django_db(transaction=True)

HOST = b"127.0.0.1:8000"
OWN_ORIGIN = (b"origin", b"http://127.0.0.1:8000")
Frame = dict[str, Any]


class Socket(WebsocketCommunicator):
    """A client that knows the protocol."""

    def __init__(self, *headers: tuple[bytes, bytes], host: bytes = HOST) -> None:
        super().__init__(websocket, "/ws/ui", headers=[(b"host", host), *headers])

    async def say(self, **message: Any) -> None:
        await self.send_json_to(message)

    async def hear(self) -> Frame:
        """The next frame that is no ping."""
        while True:
            frame: Frame = json.loads((await self._output())["text"])
            if frame["t"] != "ping":
                return frame

    async def closed(self) -> int:
        """Wait for the end; its code."""
        while (message := await self._output())["type"] != "websocket.close":
            pass
        return int(message["code"])

    async def _output(self) -> dict[str, Any]:
        return dict(await self.receive_output(timeout=PATIENCE_S))

    async def subscribe(self, topic: str) -> Frame:
        await self.say(t="sub", topic=topic)
        return await self.hear()


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., Any]]:
    """Open sockets as a user by header; all are closed at the end."""
    sockets: list[Socket] = []

    async def make(user_id: str | None, *headers: tuple[bytes, bytes]) -> Socket:
        named = [(b"x-user-id", user_id.encode())] if user_id else []
        socket = Socket(*named, *headers)
        sockets.append(socket)
        assert (await socket.connect(timeout=PATIENCE_S))[0]
        return socket

    yield make
    for socket in sockets:
        await socket.disconnect(timeout=PATIENCE_S)
    await channel_layers["default"].flush()


def run(workflow: Workflow, tiles: int, **changes: Any) -> None:
    """What the scheduler would write and tell."""
    Job.objects.filter(workflow=workflow, job_id="j1").update(tiles_processed=tiles, **changes)
    Workflow.objects.filter(pk=workflow.pk).update(status="RUNNING")
    updates.workflow_changed(workflow.owner_id, workflow.uuid)


def body_of(workflow: Workflow) -> dict[str, Any]:
    return workflow_body(Workflow.objects.select_related("owner").get(pk=workflow.pk))


def applied(body: dict[str, Any], frame: Frame) -> dict[str, Any]:
    """What a client does with a frame."""
    if frame["t"] == "snap":
        return dict(frame["data"])
    result = {**body, **{key: value for key, value in frame.items() if key not in {"t", "topic", "seq", "jobs"}}}
    changes = {change["job_id"]: change for change in frame.get("jobs", [])}
    result["jobs"] = [{**job, **changes.get(job["job_id"], {})} for job in body["jobs"]]
    return result


async def test_a_subscriber_gets_the_body_of_the_matching_get(connect: Any, amelie: User, submit: Submit) -> None:
    workflow = await sync_to_async(submit)(amelie)
    socket = await connect("amelie")
    client = Client(headers={"X-User-ID": "amelie"})
    for topic, path in ((f"workflow:{workflow.uuid}", f"/workflow/{workflow.uuid}"), ("user", "/workflow"), ("queue", "/queue")):
        frame = await socket.subscribe(topic)
        body = (await sync_to_async(client.get)(path)).json()
        assert (frame["t"], frame["topic"], frame["data"]) == ("snap", topic, body)
    job = body_of_job = (await sync_to_async(body_of)(workflow))["jobs"][0]
    assert (await socket.subscribe(f"job:{job['id']}"))["data"] == body_of_job


async def test_frames_are_numbered_and_add_up_to_what_http_shows(connect: Any, amelie: User, submit: Submit) -> None:
    workflow = await sync_to_async(submit)(amelie, ("j1", "b1"), ("j2", "b2"))
    socket = await connect("amelie")
    frame = await socket.subscribe(f"workflow:{workflow.uuid}")
    body, number = frame["data"], 1
    for tiles, changes in ((1, {"state": "RUNNING"}), (7, {}), (20, {"state": "SUCCEEDED"})):
        assert frame["seq"] == number
        await socket.say(t="ack", seq=number)
        await sync_to_async(run)(workflow, tiles, **changes)
        frame, number = await socket.hear(), number + 1
        assert frame["t"] == "delta"
        body = applied(body, frame)
    assert body == await sync_to_async(body_of)(workflow)


async def test_progress_is_told_without_a_read_and_only_what_changed(connect: Any, amelie: User, submit: Submit) -> None:
    workflow = await sync_to_async(submit)(amelie, ("j1", "b1"), ("j2", "b2"))
    socket = await connect("amelie")
    snapshot = await socket.subscribe(f"workflow:{workflow.uuid}")
    await socket.say(t="ack", seq=1)
    job = snapshot["data"]["jobs"][0]
    updates.progress_made(amelie.pk, workflow.uuid, [{"id": job["id"], "attempt": 1, "tiles_processed": 5, "tiles_total": 20}])
    frame = await socket.hear()
    assert frame == {
        "t": "delta", "topic": f"workflow:{workflow.uuid}", "seq": 2, "progress": 0.125,
        "jobs": [{"job_id": "j1", "id": job["id"], "tiles_processed": 5, "progress": 0.25}],
    }  # fmt: skip


async def test_a_client_that_does_not_answer_gets_one_delta_for_all_that_happened_since(connect: Any, amelie: User, submit: Submit) -> None:
    workflow = await sync_to_async(submit)(amelie)
    socket = await connect("amelie")
    body = (await socket.subscribe(f"workflow:{workflow.uuid}"))["data"]
    await socket.say(t="ack", seq=1)
    await sync_to_async(run)(workflow, 1, state="RUNNING")
    body = applied(body, await socket.hear())
    for tiles in range(2, 12):
        await sync_to_async(run)(workflow, tiles)
    await sync_to_async(updates.flush)()
    assert await socket.receive_nothing(timeout=1)
    await socket.say(t="ack", seq=2)
    frame = await socket.hear()
    assert (frame["seq"], frame["jobs"][0]["tiles_processed"]) == (3, 11)
    assert applied(body, frame) == await sync_to_async(body_of)(workflow)


async def test_resync_answers_with_snapshots_though_answers_are_missing(connect: Any, amelie: User, submit: Submit) -> None:
    workflow = await sync_to_async(submit)(amelie)
    socket = await connect("amelie")
    await socket.subscribe(f"workflow:{workflow.uuid}")
    await sync_to_async(run)(workflow, 3, state="RUNNING")
    await socket.say(t="resync")
    frame = await socket.hear()
    assert (frame["t"], frame["seq"]) == ("snap", 2)
    assert frame["data"] == await sync_to_async(body_of)(workflow)


async def test_a_new_workflow_reaches_the_list(connect: Any, amelie: User, submit: Submit) -> None:
    socket = await connect("amelie")
    assert (await socket.subscribe("user"))["data"]["results"] == []
    await socket.say(t="ack", seq=1)
    workflow = await sync_to_async(submit)(amelie, name="new")
    frame = await socket.hear()
    assert (frame["t"], [row["workflow_id"] for row in frame["data"]["results"]]) == ("snap", [str(workflow.uuid)])


async def test_the_queue_is_told_without_the_names_of_others(connect: Any, amelie: User, bjorn: User, submit: Submit) -> None:
    socket = await connect("amelie")
    await socket.subscribe("queue")
    await socket.say(t="ack", seq=1)
    await sync_to_async(submit)(bjorn)
    frame = await socket.hear()
    assert [entry["user_id"] for entry in frame["waiting"]] == [None]
    assert frame["waiting"] == (await sync_to_async(queue_body)(amelie))["waiting"]


@pytest.mark.parametrize("kind", ["workflow", "job"])
async def test_what_is_not_yours_closes_as_what_is_not_there(connect: Any, amelie: User, bjorn: User, submit: Submit, kind: str) -> None:
    workflow = await sync_to_async(submit)(amelie)
    key = workflow.uuid if kind == "workflow" else (await sync_to_async(body_of)(workflow))["jobs"][0]["id"]
    for topic in (f"{kind}:{key}", f"{kind}:00000000-0000-0000-0000-000000000000", f"{kind}:x"):
        socket = await connect("bjorn")
        await socket.say(t="sub", topic=topic)
        assert await socket.closed() == consumers.NOT_FOUND


async def test_a_deleted_workflow_closes_its_socket(connect: Any, amelie: User, submit: Submit) -> None:
    workflow = await sync_to_async(submit)(amelie)
    socket = await connect("amelie")
    await socket.subscribe(f"workflow:{workflow.uuid}")
    await sync_to_async(Workflow.objects.filter(pk=workflow.pk).delete)()
    await sync_to_async(updates.workflow_changed)(amelie.pk, workflow.uuid)
    assert await socket.closed() == consumers.NOT_FOUND


async def test_who_is_not_signed_in_is_told_at_the_first_word(connect: Any, amelie: User) -> None:
    for headers in ((), (OWN_ORIGIN,), ((b"authorization", b"Token nonsense"),), (OWN_ORIGIN, (b"cookie", b"sessionid=nonsense"))):
        socket = await connect(None, *headers)
        await socket.say(t="sub", topic="user")
        assert await socket.closed() == consumers.SIGNED_OUT


async def test_who_is_not_signed_in_and_silent_is_told_too(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "GREETING_S", 0.0)
    assert await (await connect(None)).closed() == consumers.SIGNED_OUT


async def test_a_token_signs_in(connect: Any, amelie: User) -> None:
    token = await Token.objects.acreate(user=amelie)
    socket = await connect(None, (b"authorization", f"Token {token.key}".encode()))
    assert (await socket.subscribe("user"))["t"] == "snap"


async def test_a_session_counts_only_with_our_own_origin(connect: Any, page: Client) -> None:
    cookie = (b"cookie", f"sessionid={page.cookies['sessionid'].value}".encode())
    assert (await (await connect(None, cookie, OWN_ORIGIN)).subscribe("user"))["t"] == "snap"
    assert (await Socket(cookie).connect(timeout=PATIENCE_S))[0] is False


@pytest.mark.parametrize(
    "origin",
    [b"http://evil.example", b"http://127.0.0.1:9000", b"http://127.0.0.1", b"null", b"file://", b"http://[", b"ftp://127.0.0.1:8000"],
)
async def test_a_foreign_origin_is_refused_at_the_handshake(amelie: User, origin: bytes) -> None:
    assert (await Socket((b"x-user-id", b"amelie"), (b"origin", origin)).connect(timeout=PATIENCE_S))[0] is False


async def test_a_name_that_leads_here_but_is_not_ours_is_refused(amelie: User) -> None:
    socket = Socket((b"x-user-id", b"amelie"), (b"origin", b"http://evil.example"), host=b"evil.example")
    assert (await socket.connect(timeout=PATIENCE_S))[0] is False


async def test_a_malformed_or_staff_user_id_is_refused(amelie: User) -> None:
    await User.objects.acreate(username="boss", is_staff=True)
    for user_id in (b"a b", b"../x", b"boss"):
        assert (await Socket((b"x-user-id", user_id)).connect(timeout=PATIENCE_S))[0] is False


@pytest.mark.parametrize(
    "text",
    [" ", "{", "[]", "3", '{"t":"nope"}', '{"t":"sub"}', '{"t":"sub","topic":3}', '{"t":"sub","topic":"planet"}', '{"t":"ack"}', '{"t":"ack","seq":1}',
     '{"t":"ack","seq":true}', '{"t":"ack","seq":"1"}', "[" * 4000],
)  # fmt: skip
async def test_a_malformed_message_closes_the_socket(connect: Any, amelie: User, text: str) -> None:
    socket = await connect("amelie")
    await socket.send_to(text_data=text)
    assert await socket.closed() == consumers.MALFORMED


async def test_a_long_frame_and_a_binary_one_close_the_socket(connect: Any, amelie: User) -> None:
    for message, code in (({"text_data": " " * 5000}, consumers.TOO_LONG), ({"bytes_data": b"{}"}, consumers.MALFORMED)):
        socket = await connect("amelie")
        await socket.send_to(**message)
        assert await socket.closed() == code


def test_every_close_code_is_one_that_an_application_may_send() -> None:
    codes = (getattr(consumers, name) for name in ("FAILED", "TOO_LONG", "COME_BACK", "MALFORMED", "SIGNED_OUT", "NOT_FOUND", "NO_ACK"))
    assert all(3000 <= code <= 4999 for code in codes), "the server refuses to send any other, and fails"


def locked(*_: object) -> None:
    raise OperationalError("database is locked")


async def test_a_locked_database_asks_a_socket_to_come_back_at_every_point(
    connect: Any, amelie: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "SAFETY_S", 0.2)
    old, new = await connect("amelie"), await connect("amelie")
    await old.subscribe("user")
    monkeypatch.setattr(consumers, "open_topic", locked)
    await new.say(t="sub", topic="user")
    assert await new.closed() == consumers.COME_BACK
    monkeypatch.setattr(consumers.LiveConsumer, "_read", locked)
    assert await old.closed() == consumers.COME_BACK
    monkeypatch.setattr(consumers.handshake, "user_of", locked)
    assert await (await connect("amelie")).closed() == consumers.COME_BACK


async def test_too_many_topics_close_the_socket(connect: Any, amelie: User, submit: Submit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "MAX_TOPICS", 1)
    socket = await connect("amelie")
    await socket.subscribe("user")
    await socket.say(t="sub", topic="queue")
    assert await socket.closed() == consumers.MALFORMED


async def test_a_client_that_never_answers_is_closed_in_the_end(connect: Any, amelie: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "ACK_PATIENCE_S", 0.2)
    socket = await connect("amelie")
    await socket.subscribe("user")
    assert await socket.closed() == consumers.NO_ACK


async def test_a_user_who_signs_out_loses_the_socket(connect: Any, page: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "IDENTITY_S", 0.2)
    socket = await connect(None, (b"cookie", f"sessionid={page.cookies['sessionid'].value}".encode()), OWN_ORIGIN)
    await socket.subscribe("user")
    await socket.say(t="ack", seq=1)
    await sync_to_async(page.post)("/ui/logout")
    assert await socket.closed() == consumers.SIGNED_OUT


async def test_the_server_pings_with_its_time(connect: Any, amelie: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "PING_S", 0.1)
    socket = await connect("amelie")
    ping = json.loads((await socket.receive_output(timeout=PATIENCE_S))["text"])
    assert (ping["t"], set(ping)) == ("ping", {"t", "now"})


async def test_another_path_is_refused() -> None:
    assert (await WebsocketCommunicator(websocket, "/ws/other").connect(timeout=PATIENCE_S))[0] is False


async def test_without_redis_a_subscriber_is_asked_to_come_back_and_an_old_one_goes_on(
    connect: Any, amelie: User, submit: Submit, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "SAFETY_S", 0.2)
    workflow = await sync_to_async(submit)(amelie)
    old, new = await connect("amelie"), await connect("bjorn")
    body = (await old.subscribe(f"workflow:{workflow.uuid}"))["data"]
    await old.say(t="ack", seq=1)
    redis_server.kill()
    try:
        await new.say(t="sub", topic="user")
        assert await new.closed() == consumers.COME_BACK
        await sync_to_async(run)(workflow, 4, state="RUNNING")
        body = applied(body, await old.hear())
        assert body["jobs"][0]["tiles_processed"] == 4
    finally:
        await sync_to_async(redis_server.start)()

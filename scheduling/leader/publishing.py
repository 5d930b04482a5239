"""How parcels get into the queues of Celery workers: messages made from a template, many in one round trip.

Celery's own `apply_async` builds each message anew and sends it by itself, ten times the cost; what it would write is written here, as
its message protocol (version 2) and kombu's transport for Redis have it. That a real worker takes them is tested with one.
"""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import uuid4

import orjson
from redis import Redis

from scheduling.protocol.messages import TASK, Parcel
from scheduling.version import broker_prefix

EXPIRES_S = 60
#: How kombu names the list of a queue's lower priority.
PRIORITY_SEPARATOR = "\x06\x16"
FIRST, LATER = 0, 1
#: Keyword arguments and what Celery embeds: none of it is used.
_NO_MORE: tuple[dict[str, Any], dict[str, Any]] = ({}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None})


def queue_keys(queue: str) -> tuple[str, str]:
    """The Redis lists of a queue: what overtakes, and the rest."""
    name = f"{broker_prefix()}{queue}"
    return name, f"{name}{PRIORITY_SEPARATOR}{LATER}"


def publish(redis: Redis, parcels: Iterable[Parcel]) -> None:
    """Send these parcels in one round trip. Raises RedisError; then some of them may have been sent."""
    expires = (datetime.now(UTC) + timedelta(seconds=EXPIRES_S)).isoformat()
    with redis.pipeline(transaction=False) as pipe:
        for parcel in parcels:
            priority = FIRST if parcel.is_first else LATER
            pipe.lpush(queue_keys(parcel.queue)[priority], message_of(parcel, priority, expires))
        pipe.execute()


def message_of(parcel: Parcel, priority: int, expires: str) -> bytes:
    """The parcel as a message of Celery's in kombu's envelope."""
    body = orjson.dumps([[[bundle.to_json() for bundle in parcel.bundles]], *_NO_MORE])
    headers = {**_headers(), "id": parcel.id, "root_id": parcel.id, "expires": expires}
    properties = {
        "correlation_id": parcel.id,
        "reply_to": "",
        "delivery_mode": 1,
        "delivery_info": {"exchange": "", "routing_key": parcel.queue},
        "priority": priority,
        "body_encoding": "base64",
        "delivery_tag": str(uuid4()),
    }
    envelope = {"content-encoding": "utf-8", "content-type": "application/json", "headers": headers, "properties": properties}
    return orjson.dumps({"body": base64.b64encode(body).decode(), **envelope})


@cache
def _headers() -> dict[str, Any]:
    """What all messages of this process have in common."""
    return {
        "lang": "py",
        "task": TASK,
        "shadow": None,
        "eta": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "parent_id": None,
        "argsrepr": "",
        "kwargsrepr": "{}",
        "origin": f"{os.getpid()}@{socket.gethostname()}",
        "ignore_result": True,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }

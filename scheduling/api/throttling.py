"""A token bucket for each user on POST /workflow: one Lua script, atomic, by Redis's own clock.

Redis away never stops the work: requests are let through, logged and counted.
"""

from __future__ import annotations

import logging
import math
from functools import cache
from typing import Any

from django.conf import settings
from django_redis import get_redis_connection
from prometheus_client import Counter
from redis import RedisError
from redis.commands.core import Script
from rest_framework import status
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

logger = logging.getLogger(__name__)

DETAIL = "Rate limit exceeded. Please slow down."
REFUSED = Counter("workflow_rate_limit_refused", "Requests answered 429 by this process.")
UNCHECKED = Counter("workflow_rate_limit_unchecked", "Requests let through by this process because Redis did not answer.")

# KEYS: tokens, time of the last count. ARGV: capacity, tokens a second. Answers {1 if a token was taken, seconds until the next}.
# A bucket that nobody touches until it is full again is the same as none, so both keys expire then.
TAKE = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local capacity, rate = tonumber(ARGV[1]), tonumber(ARGV[2])
local tokens = tonumber(redis.call('GET', KEYS[1]) or capacity)
local last = tonumber(redis.call('GET', KEYS[2]) or now)
tokens = math.min(capacity, tokens + math.max(0, now - last) * rate)
local taken = 0
if tokens >= 1 then
  tokens = tokens - 1
  taken = 1
end
local expires = math.min(math.ceil((capacity - tokens) / rate) + 1, 31536000)
redis.call('SET', KEYS[1], string.format('%.6f', tokens), 'EX', expires)
redis.call('SET', KEYS[2], string.format('%.6f', now), 'EX', expires)
return {taken, string.format('%.6f', math.max(0, 1 - tokens) / rate)}
"""


class RateLimited(APIException):
    """429 with the one sentence that clients know; DRF's own would add to it."""

    status_code = status.HTTP_429_TOO_MANY_REQUESTS
    default_detail = DETAIL

    def __init__(self, wait_s: float | None) -> None:
        super().__init__()
        #: Whole seconds, for Retry-After.
        self.wait = max(1, math.ceil(wait_s or 0))


class TokenBucketThrottle(BaseThrottle):
    """Takes a token for each request; the view raises RateLimited with `wait()`."""

    def __init__(self) -> None:
        self._wait_s = 0.0

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Whether the user's bucket had a token."""
        capacity = settings.ENV.rate_limit_capacity
        if capacity == 0:
            return True
        taken, self._wait_s = take(request.user.get_username(), capacity, settings.ENV.rate_limit_refill_per_second)
        if not taken:
            REFUSED.inc()
        return taken

    def wait(self) -> int:
        """Whole seconds until there is a token, at least 1."""
        return max(1, math.ceil(self._wait_s))


def take(user_id: str, capacity: int, refill_per_second: float) -> tuple[bool, float]:
    """Take a token: (taken, seconds until there is one again). Taken as well when Redis does not answer."""
    keys = [f"bucket:{user_id}:tokens", f"bucket:{user_id}:timestamp"]
    try:
        taken, wait_s = _script()(keys=keys, args=[capacity, refill_per_second], client=get_redis_connection("default"))
    except (RedisError, OSError) as error:
        UNCHECKED.inc()
        logger.warning("the rate limit was not checked: %s", error, extra={"action": "rate_limit_unchecked", "user_id": user_id})
        return True, 0.0
    return bool(taken), float(wait_s)


@cache
def _script() -> Script:
    client: Any = get_redis_connection("default")
    return Script(client, TAKE)

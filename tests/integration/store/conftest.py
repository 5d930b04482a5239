"""Fixtures of the store's tests; what they hand out is in `house.py`, which can only be imported once Django is ready."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from tests.integration.store.house import House


@pytest.fixture
def house(tmp_path: Path, redis_server: RedisServer) -> House:
    """A house on the session's Redis."""
    from tests.integration.store.house import House

    return House(tmp_path, redis_server.url)

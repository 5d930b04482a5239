"""A cache of this process with a bound in bytes: what was used least recently goes first. Safe from several threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Cache(Generic[T]):
    """Values by key, together at most `limit_bytes` by the sizes given with them; the newest stays, whatever its size."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._values: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """Of all values kept."""
        return self._bytes

    def get(self, key: Hashable) -> T | None:
        """The value, which now counts as used; None when it is not there."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._values.clear()
            self._bytes = 0

    def put(self, key: Hashable, value: T, size_bytes: int) -> None:
        """Keep a value."""
        with self._lock:
            self._bytes -= self._values.pop(key, (value, 0))[1]
            self._values[key] = value, size_bytes
            self._bytes += size_bytes
            while self._bytes > self._limit_bytes and len(self._values) > 1:
                _, (_, freed) = self._values.popitem(last=False)
                self._bytes -= freed

"""When a worker's child gives memory back."""

from __future__ import annotations

import threading

import pytest

from scheduling.worker import memory, resting
from tests.support.waiting import PATIENCE_S


def test_memory_goes_back_once_after_each_time_of_work_and_not_without_any(monkeypatch: pytest.MonkeyPatch) -> None:
    given = threading.Semaphore(0)
    monkeypatch.setattr(resting, "give_back", given.release)
    thread = resting.Rest(rest_s=0.01)
    thread.start()
    for _ in range(2):
        assert not given.acquire(blocking=False)
        thread.worked()
        assert given.acquire(timeout=PATIENCE_S)


def test_giving_back_works_with_and_without_arrow() -> None:
    memory.give_back()
    import pyarrow  # noqa: F401  (its pool is asked only when it is there)

    memory.give_back()

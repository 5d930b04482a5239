"""A worker divides the cores among its children, and a network takes what its process was granted."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.concurrency.solo import TaskPool as SoloPool

from scheduling.instanseg.threads import THREADS_VARIABLE, granted, share_cores
from scheduling.worker import signals


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set first, so that what a test leaves is taken away.
    monkeypatch.setenv(THREADS_VARIABLE, "1")
    monkeypatch.delenv(THREADS_VARIABLE)


@pytest.mark.parametrize(("processes", "each"), [(1, 8), (2, 4), (3, 2), (8, 1), (20, 1)])
def test_cores_are_divided_and_nobody_gets_none(monkeypatch: pytest.MonkeyPatch, processes: int, each: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert granted() is None
    share_cores(processes)
    assert granted() == each


def test_what_the_operator_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(THREADS_VARIABLE, "5")
    share_cores(64)
    assert granted() == 5


@pytest.mark.parametrize(("pool", "each"), [(PreforkPool, 2), (SoloPool, 8)])
def test_a_worker_counts_its_children_and_a_solo_one_is_alone(monkeypatch: pytest.MonkeyPatch, pool: type, each: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    signals._share(sender=SimpleNamespace(pool_cls=pool, concurrency=4))
    assert granted() == each

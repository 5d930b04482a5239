"""Messages that a pool has lost sight of."""

from __future__ import annotations

from scheduling.worker.watching.forgotten import FORGOTTEN_S, Forgotten


def after(forgotten: Forgotten, seconds: int, *, free: int, carried: tuple[str, ...] = ()) -> frozenset[str]:
    """What is forgotten after so many beats of a worker that holds two bundles."""
    found: frozenset[str] = frozenset()
    for _ in range(seconds):
        found = forgotten.look(("a", "b"), carried, free=free, passed_s=1.0)
    return found


def test_a_bundle_waits_for_a_free_process_as_long_as_it_takes() -> None:
    assert after(Forgotten(), 10_000, free=0, carried=("a",)) == frozenset()


def test_a_bundle_that_free_processes_leave_alone_is_forgotten_and_one_that_is_carried_is_not() -> None:
    forgotten = Forgotten()
    assert after(forgotten, int(FORGOTTEN_S), free=1, carried=("a",)) == frozenset()
    assert after(forgotten, 1, free=1, carried=("a",)) == {"b"}


def test_a_beat_that_comes_late_does_not_count_as_the_time_that_has_passed() -> None:
    assert Forgotten().look(("a",), (), free=1, passed_s=1000.0) == frozenset()

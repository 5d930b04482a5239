"""A cache never holds more than its bytes, and forgets first what was not asked for longest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scheduling.viewer.caches import Cache


def test_what_was_used_least_recently_goes_first() -> None:
    cache: Cache[str] = Cache(30)
    for name in "abc":
        cache.put(name, name.upper(), 10)
    assert cache.get("a") == "A"
    cache.put("d", "D", 10)
    assert [cache.get(name) for name in "abcd"] == ["A", None, "C", "D"]
    cache.clear()
    assert (cache.get("a"), cache.size_bytes) == (None, 0)


def test_a_value_larger_than_the_limit_is_kept_alone() -> None:
    cache: Cache[int] = Cache(10)
    cache.put("small", 1, 5)
    cache.put("large", 2, 50)
    assert (cache.get("small"), cache.get("large"), cache.size_bytes) == (None, 2, 50)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 12)), max_size=60))
def test_the_limit_holds_whatever_is_put(puts: list[tuple[int, int]]) -> None:
    cache: Cache[int] = Cache(30)
    for key, size in puts:
        cache.put(key, size, size)
        assert cache.get(key) == size
        assert cache.size_bytes <= 30
    kept = [cache.get(key) for key in range(7)]
    assert cache.size_bytes == sum(size for size in kept if size is not None)

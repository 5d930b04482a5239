"""A pytest plugin that tells what each test costs in seconds of CPU, with the programs that it has started and waited for.

    COSTS=costs.txt python -m pytest -p tests.support.costs -n 4 tests

Each line of the file is "SECONDS OWN NODE": seconds of this process and its ended children, seconds of this process alone. What a
fixture that several tests share has started is told of the test after which it ends.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest


def _spent() -> tuple[float, float]:
    own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    own_s = own.ru_utime + own.ru_stime
    return own_s + ended.ru_utime + ended.ru_stime, own_s


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Note it when the test and what its fixtures have torn down are over."""
    all_before, own_before = _spent()
    result = yield
    all_s, own_s = _spent()
    with Path(os.environ["COSTS"]).open("a") as out:
        out.write(f"{all_s - all_before:.2f} {own_s - own_before:.2f} {item.nodeid}\n")
    return result

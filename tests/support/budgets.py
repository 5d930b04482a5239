"""A pytest plugin: runs the Hypothesis properties alone, a thousand examples each or as many as 20 s hold, and notes the last example that found anything.

    BUDGETS=found.json python -m pytest -p tests.support.budgets -n 0 tests/unit

An example finds something when it reaches a step from one line of the product to another that no example before it took. What a property
does not find in its first hundred examples and finds in its next nine hundred is what a larger budget would buy.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import hypothesis
import pytest

EXAMPLES, SECONDS, PILOT = 1000, 20.0, 5
#: New steps of examples after this one are counted.
LATE = 100
ROOT = Path(__file__).resolve().parents[2]
PRODUCT = tuple(f"{ROOT / package}{os.sep}" for package in ("scheduling", "dashboard", "workflowsite"))
Step = tuple[str, int, int]


class Steps:
    """The steps that the examples of one property have taken."""

    def __init__(self) -> None:
        self._taken: set[Step] = set()
        self.examples = self.last = self.late = 0

    def follow(self, test: Callable[..., Any]) -> Callable[..., Any]:
        """The test, watched: each call is an example."""

        @functools.wraps(test)
        def example(*args: Any, **kwargs: Any) -> Any:
            self.examples += 1
            before = len(self._taken)
            sys.settrace(self._enter)
            try:
                return test(*args, **kwargs)
            finally:
                sys.settrace(None)
                if new := len(self._taken) - before:
                    self.last = self.examples
                    self.late += new if self.examples > LATE else 0

        return example

    def _enter(self, frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        name = frame.f_code.co_filename
        if event != "call" or not name.startswith(PRODUCT):
            return None
        at = 0

        def step(frame: FrameType, event: str, _: object) -> Any:
            nonlocal at
            if event == "line":
                self._taken.add((name, at, frame.f_lineno))
                at = frame.f_lineno
            return step

        return step


FOUND: dict[str, dict[str, Any]] = {}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out whatever is no property."""
    properties = [item for item in items if getattr(getattr(item, "obj", None), "is_hypothesis_test", False)]
    config.hook.pytest_deselected(items=[item for item in items if item not in properties])
    items[:] = properties


def _affordable(item: pytest.Function, own: hypothesis.settings) -> int:
    """How many examples fit, by the time of a few."""
    began = time.monotonic()
    item.obj._hypothesis_internal_use_settings = hypothesis.settings(own, max_examples=PILOT, database=None)
    item.runtest()
    return max(PILOT, min(EXAMPLES, int(PILOT * SECONDS / (time.monotonic() - began))))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Function) -> Iterator[None]:
    """Measure one property."""
    test = item.obj
    inner, own = test.hypothesis.inner_test, test._hypothesis_internal_use_settings
    test.hypothesis.inner_test = Steps().follow(inner)
    most = _affordable(item, own)
    steps, began = Steps(), time.monotonic()
    test.hypothesis.inner_test = steps.follow(inner)
    test._hypothesis_internal_use_settings = hypothesis.settings(own, max_examples=most, database=None)
    found: dict[str, Any] = {"budget": own.max_examples}
    try:
        yield
    except BaseException as error:
        found["failure"] = repr(error)[:300]
        raise
    finally:
        test.hypothesis.inner_test, test._hypothesis_internal_use_settings = inner, own
        seconds = round(time.monotonic() - began, 2)
        FOUND[item.nodeid] = {**found, "examples": steps.examples, "last": steps.last, "late": steps.late, "seconds": seconds}


def pytest_sessionfinish() -> None:
    """Write what was found."""
    Path(os.environ["BUDGETS"]).write_text(json.dumps(FOUND, indent=2) + "\n")

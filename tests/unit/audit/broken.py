"""Stories that break one rule each: how they are entered, begun, ended and altered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.unit.audit.story import Story

BROKEN: list[tuple[str, str, Callable[[], Story]]] = []


def broken(rule: str) -> Callable[[Callable[[], Story]], Callable[[], Story]]:
    """Enter a story that breaks this one rule, and after it goes on as if nothing had been."""

    def enter(tell: Callable[[], Story]) -> Callable[[], Story]:
        BROKEN.append((rule, tell.__name__, tell))
        return tell

    return enter


def told(*jobs: str, **limits: Any) -> tuple[Story, Any]:
    """A story in which user 1 has a slot and these jobs wait."""
    story = Story(**limits)
    flow = story.submit(1, *(jobs or ("a x",)))
    story.admit(1)
    return story, flow


def ended(story: Story, *jobs: Any) -> Story:
    """Jobs run to their end, and the slots are given up."""
    for job in jobs:
        story.start(job)
        story.finish(job)
    for user in list(story.slots):
        story.release(user)
    return story


def alter(story: Story, kind: str, nth: int = 0, **changes: Any) -> Story:
    """Another story in the nth event of a type; keys of `data` change that."""
    index = [i for i, event in enumerate(story.events) if event.type == kind][nth]
    data = {**story.events[index].data, **changes.pop("data", {})}
    story.events[index] = replace(story.events[index], data=data, **changes)
    return story

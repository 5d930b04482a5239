"""What the integration tests share, and what they do not: a slide is looked at once, and what files take is read anew by each test."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from scheduling.slides.reading.reader import SlideInfo

#: Of these nothing but the file itself is read.
ONE_FILE = (".tif", ".tiff")


@pytest.fixture(scope="session", autouse=True)
def _looked_at_once() -> Iterator[None]:
    """A look at a slide starts a process; most tests register the same few bytes again and again."""
    from scheduling.services import slides

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slides, "describe_apart", once(slides.describe_apart))
        yield


@pytest.fixture(autouse=True)
def _read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process remembers for seconds what files take."""
    from scheduling.selectors import disk, queue

    monkeypatch.setattr(queue, "disk_use", disk.DiskUse())


def once(describe: Callable[[Path], SlideInfo]) -> Callable[[Path], SlideInfo]:
    """The same description for the same content; what raises is asked again."""
    known: dict[tuple[str, bytes], SlideInfo] = {}

    def described(path: Path) -> SlideInfo:
        if path.suffix not in ONE_FILE or not path.is_file():
            return describe(path)
        key = path.suffix, hashlib.sha256(path.read_bytes()).digest()
        if key not in known:
            known[key] = describe(path)
        return known[key]

    return described

"""Opening slides: scanners' formats by OpenSlide, other TIFFs by tifffile, pictures by Pillow; and what registration records.

Whatever is wrong with a file comes out as UnreadableSlide, with the reason.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import openslide

from scheduling.errors import UnreadableSlide
from scheduling.slides.reading.filesets import members
from scheduling.slides.reading.interface import READ_ERRORS, RGB, THUMBNAIL_MOST_PX, Level, SlideReader
from scheduling.slides.reading.openslides import OpenSlideReader
from scheduling.slides.reading.pictures import PictureReader, looks_like_picture
from scheduling.slides.reading.tiff import TiffReader, check_complete, looks_like_tiff

__all__ = ["RGB", "Level", "SlideInfo", "SlideReader", "cached_reader", "describe", "fingerprint", "open_slide"]

_PROBE_PX = 16
#: OpenSlide's word for a tiled TIFF of no scanner. tifffile gives the same pixels three times as fast, and does not show 16 bits, alpha,
#: stacks or levels of uneven downsample otherwise than they are.
_PLAIN_TIFF = "generic-tiff"
#: Smallest levels up to this are looked at for black padding.
_LOOK_PX = 16_000_000
_BLACK = 8
_BLACK_SHARE = 0.02


@dataclass(frozen=True, kw_only=True)
class SlideInfo:
    """What is recorded of a slide at registration."""

    width: int
    height: int
    mpp: float | None
    #: The tag or property that `mpp` came from; "" when there is none.
    mpp_from: str
    levels: tuple[Level, ...]
    format: str
    fingerprint: str
    #: Of all its files.
    size_bytes: int
    #: What the owner should know: values that were not believed, padding, a missing pyramid.
    warnings: tuple[str, ...] = ()


def open_slide(path: Path) -> SlideReader:
    """Open a slide and try one window of every level. Raises UnreadableSlide, and nothing else, with the reason."""
    try:
        reader = _open(path)
    except READ_ERRORS as error:
        # Libraries name the file by its whole path, which is not the user's to know.
        reason = str(error).replace(str(path), path.name)
        raise UnreadableSlide(f"The file is no slide that can be read: {reason}") from error
    try:
        _probe(reader)
    except UnreadableSlide:
        reader.close()
        raise
    return reader


def describe(path: Path) -> SlideInfo:
    """What registration records. Raises UnreadableSlide."""
    reader = open_slide(path)
    try:
        return SlideInfo(
            width=reader.width,
            height=reader.height,
            mpp=reader.mpp,
            mpp_from=reader.resolution.source,
            levels=reader.levels,
            format=reader.format,
            fingerprint=fingerprint(path),
            size_bytes=sum(file.stat().st_size for file in (path, *members(path))),
            warnings=(*reader.resolution.warnings, *reader.warnings, *_doubts(reader)),
        )
    finally:
        reader.close()


_SAMPLES = 64
_SAMPLE_BYTES = 65_536
#: Of each further file of a set.
_MEMBER_SAMPLES = 4


def fingerprint(path: Path) -> str:
    """Hexadecimal SHA-256 of the size and the content; above 4 MiB, of 64 samples of 64 KiB evenly over the file.

    Head and tail are always among the samples. An edit that keeps the size and misses every sample is not seen. Of a
    slide of several files, names, sizes and 4 samples of each are included. Raises UnreadableSlide.
    """
    digest = hashlib.sha256()
    try:
        size = path.stat().st_size
        digest.update(str(size).encode())
        _hash_samples(digest, path, size, _SAMPLES)
        for member in members(path):
            size = member.stat().st_size
            digest.update(f"{member.name}:{size}".encode())
            _hash_samples(digest, member, size, _MEMBER_SAMPLES)
    except OSError as error:
        raise UnreadableSlide(f"The file cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _hash_samples(digest: hashlib._Hash, path: Path, size: int, samples: int) -> None:
    with path.open("rb") as file:
        if size <= samples * _SAMPLE_BYTES:
            digest.update(file.read())
            return
        for index in range(samples):
            file.seek((size - _SAMPLE_BYTES) * index // (samples - 1))
            digest.update(file.read(_SAMPLE_BYTES))


class ReaderCache:
    """The few slides a process has open. An evicted reader is closed when its last user lets go of it.

    A process that is forked opens its own: libraries may have been in the middle of something, in a thread that is not there.
    """

    size: ClassVar[int] = 4
    most_bytes: ClassVar[int] = 640 * 1024 * 1024

    def __init__(self) -> None:
        self._inherited: list[SlideReader] = []
        self._readers: OrderedDict[tuple[Path, str], SlideReader] = OrderedDict()
        self._begin()

    def get(self, path: Path, content: str) -> SlideReader:
        """The open reader of `path`, whose fingerprint is `content`. Raises UnreadableSlide, also when the content is another now."""
        key = (path, content)
        with self._lock:
            reader = self._taken(key)
            if reader is not None:
                return reader
            # A share that answers slowly holds up those who want its slides, and nobody else.
            opening = self._opening.setdefault(key, threading.Lock())
        with opening:
            try:
                with self._lock:
                    reader = self._taken(key)
                return reader or self._kept(key, _open_known(path, content))
            finally:
                with self._lock:
                    self._opening.pop(key, None)

    def forget(self) -> None:
        """In a process just forked: leave all readers to the parent. They are not even closed."""
        self._inherited += self._readers.values()
        self._readers = OrderedDict()
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._opening: dict[tuple[Path, str], threading.Lock] = {}

    def _taken(self, key: tuple[Path, str]) -> SlideReader | None:
        reader = self._readers.pop(key, None)
        if reader is None or not reader.is_usable:
            return None
        self._readers[key] = reader
        return reader

    def _kept(self, key: tuple[Path, str], reader: SlideReader) -> SlideReader:
        with self._lock:
            self._readers[key] = reader
            while len(self._readers) > 1 and (len(self._readers) > self.size or self._held() > self.most_bytes):
                self._readers.popitem(last=False)
        return reader

    def _held(self) -> int:
        return sum(reader.held_bytes for reader in self._readers.values())


_cache = ReaderCache()
os.register_at_fork(after_in_child=_cache.forget)


def cached_reader(path: Path, content: str) -> SlideReader:
    """The process's open reader of a slide; the caller does not close it. Raises UnreadableSlide."""
    return _cache.get(path, content)


def _open_known(path: Path, content: str) -> SlideReader:
    """Whatever is computed is kept under the fingerprint: another file in the place of the one registered must not be."""
    reader = open_slide(path)
    if fingerprint(path) != content:
        reader.close()
        raise UnreadableSlide("The file has changed since the slide was registered; register it again.")
    return reader


def _open(path: Path) -> SlideReader:
    if not path.is_file():
        raise UnreadableSlide("There is no such file.")
    if path.stat().st_size == 0:
        raise UnreadableSlide("The file is empty.")
    members(path)  # refuses sets that name files elsewhere, before OpenSlide follows them
    is_tiff = looks_like_tiff(path)
    vendor = openslide.OpenSlide.detect_format(str(path))
    if vendor is None and looks_like_picture(path):  # the first file of a MIRAX slide is a JPEG as well
        return PictureReader(path)
    if is_tiff and vendor is not None:
        check_complete(path)
    if vendor is not None and vendor != _PLAIN_TIFF:
        return OpenSlideReader(path)
    if not is_tiff:
        raise UnreadableSlide("The file is in no slide format that is known here.")
    return TiffReader(path)


def _doubts(reader: SlideReader) -> list[str]:
    """What registration finds by a look at the smallest level."""
    smallest = reader.levels[-1]
    if smallest.width * smallest.height > THUMBNAIL_MOST_PX:
        return [f"The slide has no level below {smallest.width:,} x {smallest.height:,} pixels: no thumbnail, and slow overviews. "
                "A tiled pyramid is better."]  # fmt: skip
    if smallest.width * smallest.height > _LOOK_PX:
        return ["The slide has no small level: thumbnail and overviews are slow. A tiled pyramid is better."]
    looked_at = reader.read(0, 0, smallest.width, smallest.height, len(reader.levels) - 1)
    share = float((looked_at.max(axis=2) <= _BLACK).mean())
    if share < _BLACK_SHARE:
        return []
    return [f"{share:.0%} of the slide is black, as scanners pad what they have not scanned."]


def _probe(reader: SlideReader) -> None:
    if reader.width < 1 or reader.height < 1:
        raise UnreadableSlide("The image has no pixels.")
    for index, level in enumerate(reader.levels):
        side = min(_PROBE_PX, level.width, level.height)
        x, y = ((size - side) * level.downsample for size in (level.width, level.height))
        reader.read(int(x), int(y), side, side, index)

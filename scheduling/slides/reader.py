"""Opening slides: OpenSlide first, plain and OME TIFF by tifffile where OpenSlide declines; what registration records.

Whatever is wrong with a file comes out as UnreadableSlide, with the reason.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

import openslide

from scheduling.errors import UnreadableSlide
from scheduling.slides.interface import READ_ERRORS, RGB, Level, SlideReader
from scheduling.slides.openslides import OpenSlideReader
from scheduling.slides.tiff import TiffReader, check_complete, looks_like_tiff

__all__ = ["RGB", "Level", "SlideInfo", "SlideReader", "cached_reader", "describe", "fingerprint", "open_slide"]

_PROBE_PX = 16


@dataclass(frozen=True, kw_only=True)
class SlideInfo:
    """What is recorded of a slide at registration."""

    width: int
    height: int
    mpp: float | None
    levels: tuple[Level, ...]
    format: str
    fingerprint: str


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
            levels=reader.levels,
            format=reader.format,
            fingerprint=fingerprint(path),
        )
    finally:
        reader.close()


_SAMPLES = 64
_SAMPLE_BYTES = 65_536


def fingerprint(path: Path) -> str:
    """Hexadecimal SHA-256 of the size and the content; above 4 MiB, of 64 samples of 64 KiB evenly over the file.

    Head and tail are always among the samples. An edit that keeps the size and misses every sample is not seen. Of a
    MIRAX slide, the sizes of its data files are included. Raises UnreadableSlide.
    """
    digest = hashlib.sha256()
    try:
        size = path.stat().st_size
        digest.update(str(size).encode())
        with path.open("rb") as file:
            _hash_samples(digest, file, size)
        for part in sorted(path.with_suffix("").glob("*")) if path.suffix.lower() == ".mrxs" else []:
            digest.update(f"{part.name}:{part.stat().st_size}".encode())
    except OSError as error:
        raise UnreadableSlide(f"The file cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _hash_samples(digest: hashlib._Hash, file: BinaryIO, size: int) -> None:
    if size <= _SAMPLES * _SAMPLE_BYTES:
        digest.update(file.read())
        return
    for index in range(_SAMPLES):
        file.seek((size - _SAMPLE_BYTES) * index // (_SAMPLES - 1))
        digest.update(file.read(_SAMPLE_BYTES))


class ReaderCache:
    """The few slides a process has open. An evicted reader is closed when its last user lets go of it."""

    size: ClassVar[int] = 4

    def __init__(self) -> None:
        self._readers: OrderedDict[tuple[Path, str], SlideReader] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: Path, content: str) -> SlideReader:
        """The open reader of `path`, whose fingerprint is `content`. Raises UnreadableSlide."""
        key = (path, content)
        with self._lock:
            reader = self._readers.pop(key, None)
            if reader is None or not reader.is_usable:
                reader = open_slide(path)
            self._readers[key] = reader
            while len(self._readers) > self.size:
                self._readers.popitem(last=False)
            return reader


_cache = ReaderCache()


def cached_reader(path: Path, content: str) -> SlideReader:
    """The process's open reader of a slide; the caller does not close it. Raises UnreadableSlide."""
    return _cache.get(path, content)


def _open(path: Path) -> SlideReader:
    if not path.is_file():
        raise UnreadableSlide("There is no such file.")
    if path.stat().st_size == 0:
        raise UnreadableSlide("The file is empty.")
    is_tiff = looks_like_tiff(path)
    vendor = openslide.OpenSlide.detect_format(str(path))
    if is_tiff and vendor is not None:
        check_complete(path)
    # OpenSlide reads only the first plane of an OME-TIFF that its generic driver takes.
    if vendor is not None and not (vendor == "generic-tiff" and TiffReader.is_ome(path)):
        return OpenSlideReader(path)
    if not is_tiff:
        raise UnreadableSlide("The file is in no slide format that is known here.")
    return TiffReader(path)


def _probe(reader: SlideReader) -> None:
    if reader.width < 1 or reader.height < 1:
        raise UnreadableSlide("The image has no pixels.")
    for index, level in enumerate(reader.levels):
        side = min(_PROBE_PX, level.width, level.height)
        x, y = ((size - side) * level.downsample for size in (level.width, level.height))
        reader.read(int(x), int(y), side, side, index)

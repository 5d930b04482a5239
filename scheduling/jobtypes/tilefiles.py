"""Finished tiles on disk: the checkpoint of a job is the set of its finished tile files.

A tile file is its payload and a trailer of 12 bytes: magic, CRC-32 of the payload, length of the payload. It is written
to a temporary name and published by a link that fails when the name is taken: the first complete file wins and never
changes. The folder itself is made by the scheduler; a worker that finds it absent takes the job as gone.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from uuid import uuid4

_TRAILER = struct.Struct("<4sII")
_MAGIC = b"TILE"
TILES_A_FOLDER = 1000


class FolderGone(Exception):
    """The job's folder is not there: the job was deleted."""


class CorruptTile(Exception):
    """A published file does not match its trailer."""


class TileFolder:
    """The finished tiles of one job, by index, and its named parts (the plan, parts of the result)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def tile_path(self, index: int) -> Path:
        """Where tile `index` is published."""
        return self.path / str(index // TILES_A_FOLDER) / str(index)

    def publish(self, index: int, payload: bytes) -> bool:
        """Publish a finished tile; False when another worker's file was there first. Raises FolderGone."""
        target = self.tile_path(index)
        if not target.parent.is_dir():
            self._make(target.parent)
        return self._link(target, payload)

    def publish_part(self, name: str, payload: bytes) -> bool:
        """Publish a named part (first one wins), for instance the constants that planning fixed once for the slide."""
        return self._link(self.path / name, payload)

    def read(self, index: int) -> bytes:
        """The payload of a finished tile. Raises FileNotFoundError when not finished, CorruptTile when damaged."""
        return self._read(self.tile_path(index))

    def read_part(self, name: str) -> bytes:
        """The payload of a named part. Raises FileNotFoundError, CorruptTile."""
        return self._read(self.path / name)

    def finished(self, total: int) -> Iterator[int]:
        """Indices below `total` whose files are complete, in order; damaged files are removed so that they are made again."""
        for folder in sorted((p for p in self.path.glob("*") if p.name.isdigit()), key=lambda p: int(p.name)):
            for file in sorted((p for p in folder.iterdir() if p.name.isdigit()), key=lambda p: int(p.name)):
                if int(file.name) < total and self._is_complete(file):
                    yield int(file.name)

    def _is_complete(self, file: Path) -> bool:
        try:
            self._read(file)
        except CorruptTile:
            file.unlink(missing_ok=True)
            return False
        return True

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(exist_ok=True)
        except FileNotFoundError as error:
            raise FolderGone(str(self.path)) from error

    def _link(self, target: Path, payload: bytes) -> bool:
        temporary = target.with_name(f".{target.name}.{uuid4().hex}")
        try:
            with temporary.open("wb") as file:
                file.write(payload)
                file.write(_TRAILER.pack(_MAGIC, zlib.crc32(payload), len(payload)))
        except FileNotFoundError as error:
            raise FolderGone(str(self.path)) from error
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        except FileNotFoundError as error:
            raise FolderGone(str(self.path)) from error
        finally:
            temporary.unlink(missing_ok=True)
        return True

    @staticmethod
    def _read(file: Path) -> bytes:
        data = file.read_bytes()
        payload, trailer = data[: -_TRAILER.size], data[-_TRAILER.size :]
        if len(trailer) != _TRAILER.size or _TRAILER.unpack(trailer) != (_MAGIC, zlib.crc32(payload), len(payload)):
            raise CorruptTile(str(file))
        return payload


def to_ranges(indices: Iterable[int]) -> list[list[int]]:
    """Ascending indices as half-open ranges, the form in which index sets travel: [0, 1, 2, 7] -> [[0, 3], [7, 8]]."""
    ranges: list[list[int]] = []
    for index in indices:
        if ranges and ranges[-1][1] == index:
            ranges[-1][1] = index + 1
        else:
            ranges.append([index, index + 1])
    return ranges


def index_digest(ranges: Iterable[Iterable[int]]) -> str:
    """SHA-256 (hex) of an index set, given as ascending half-open ranges: of the text "0-20,25-30"."""
    return hashlib.sha256(",".join(f"{start}-{stop}" for start, stop in ranges).encode()).hexdigest()


def from_ranges(ranges: Iterable[Iterable[int]]) -> Iterator[int]:
    """The indices of half-open ranges, in order."""
    for start, stop in ranges:
        yield from range(start, stop)

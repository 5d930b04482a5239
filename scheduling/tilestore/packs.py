"""The finished tiles of a thousand in one file: their records one after another, then where each lies, then a trailer.

Every record keeps its own CRC, so a damaged one costs that tile alone; the CRC of the table of places stands in the trailer.
Nothing here knows loose tile files.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from scheduling.tilestore.records import CorruptTile, opened, payload_of, read_at

#: Index of the tile, offset and size of its record in bytes.
_PLACE = struct.Struct("<IQI")
#: Magic, number of places, CRC-32 of the places.
_TRAILER = struct.Struct("<4sII")
_MAGIC = b"PCK1"


@dataclass(frozen=True, kw_only=True)
class Pack:
    """A pack that is open for reading."""

    path: Path
    descriptor: int
    #: (offset, size) of each tile's record.
    places: dict[int, tuple[int, int]]
    seed_of: Callable[[int], int]

    def record(self, index: int) -> bytes:
        """The whole record of a tile. Raises KeyError when the pack does not have it, CorruptTile."""
        offset, size = self.places[index]
        record = read_at(self.descriptor, size, offset)
        payload_of(record, self.seed_of(index), f"{self.path}, tile {index}")
        return record

    def good(self) -> Iterator[int]:
        """Indices of the tiles whose records are whole, in order."""
        for index in sorted(self.places):
            try:
                self.record(index)
            except CorruptTile:
                continue
            yield index


@contextmanager
def open_pack(path: Path, seed: int, seed_of: Callable[[int], int]) -> Iterator[Pack]:
    """Open a pack. Raises MissingTile when it is not there, CorruptTile when its table of places is damaged."""
    with opened(path) as (descriptor, size):
        end = read_at(descriptor, _TRAILER.size, max(0, size - _TRAILER.size))
        magic, count, crc = _TRAILER.unpack(end) if len(end) == _TRAILER.size else (b"", 0, 0)
        start = size - _TRAILER.size - count * _PLACE.size
        if magic != _MAGIC or start < 0:
            raise CorruptTile(str(path))
        table = read_at(descriptor, count * _PLACE.size, start)
        if zlib.crc32(table, seed) != crc:
            raise CorruptTile(str(path))
        places = {index: (offset, length) for index, offset, length in _PLACE.iter_unpack(table)}
        yield Pack(path=path, descriptor=descriptor, places=places, seed_of=seed_of)


def write_pack(file: IO[bytes], seed: int, records: Iterable[tuple[int, bytes]]) -> None:
    """Write a pack of these tiles' records, in the order given, holding one of them in memory at a time."""
    table, offset = bytearray(), 0
    for index, record in records:
        file.write(record)
        table += _PLACE.pack(index, offset, len(record))
        offset += len(record)
    file.write(table)
    file.write(_TRAILER.pack(_MAGIC, len(table) // _PLACE.size, zlib.crc32(table, seed)))

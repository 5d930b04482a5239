"""Which bundle each process of a worker carries out: written by the process, read by the worker's watch, in memory that they share.

No file and no message: a bundle lasts 250 ms, and a process that hangs says nothing any more. What a process was at when it died
stays to be read until the second process after it begins a bundle.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
from billiard.process import current_process

from scheduling.protocol.messages import Bundle

#: A checksum, then: process, begin, limit, term, epoch, bundle, parcel, job.
_CHECKSUM = struct.Struct("<I")
_RECORD = struct.Struct("<qddqq40s40s40s")
_SIZE = _CHECKSUM.size + _RECORD.size
_NOTHING = b"\0" * _SIZE


@dataclass(frozen=True, kw_only=True)
class Carried:
    """A bundle that a process has begun and not ended, as far as a report of its loss needs it."""

    pid: int
    #: By the monotonic clock, which the processes of a host have in common.
    began_at: float
    bundle: str
    #: In which it has come, perhaps with others: what the worker's parent holds.
    parcel: str
    job: str
    epoch: int
    term: int
    limit_s: float

    @classmethod
    def of(cls, order: Bundle, *, parcel: str = "") -> Carried:
        """By this process, from now on; `parcel` is "" for a bundle that travels alone."""
        names = {"bundle": order.id, "parcel": parcel or order.id, "job": order.spec.id}
        return cls(pid=os.getpid(), began_at=time.monotonic(), epoch=order.epoch, term=order.term, limit_s=order.limit_s, **names)


class Slots:
    """Two places for each process of a pool, by its number there: a process that replaces a dead one leaves it its last word."""

    def __init__(self, processes: int) -> None:
        self._count = 2 * processes
        self._memory = mmap.mmap(-1, self._count * _SIZE)
        self._mine: tuple[int, int] | None = None

    @contextmanager
    def carrying(self, order: Bundle, *, parcel: str = "") -> Iterator[None]:
        """While this process carries out a bundle."""
        place = self._place()
        self._write(place, _packed(Carried.of(order, parcel=parcel)))
        try:
            yield
        finally:
            idle = Carried(pid=os.getpid(), began_at=time.monotonic(), bundle="", parcel="", job="", epoch=0, term=0, limit_s=0.0)
            self._write(place, _packed(idle))

    def carried(self) -> list[Carried]:
        """What is being carried out."""
        return [one for one in self._left() if one.bundle and psutil.pid_exists(one.pid)]

    def idle(self) -> list[Carried]:
        """Processes that have carried out a bundle and have not begun the next: a record without a bundle for each."""
        return [one for one in self._left() if not one.bundle and psutil.pid_exists(one.pid)]

    def begun(self, bundles: Collection[str]) -> Carried | None:
        """The one of these bundles that a process has begun and not ended, be it that it has died since."""
        return next((one for one in self._left() if one.bundle in bundles), None)

    def _left(self) -> list[Carried]:
        return [found for place in range(self._count) if (found := self._read(place))]

    def _place(self) -> int:
        """This process's own: of the two of its number, not the one that its predecessor has used last."""
        pid = os.getpid()
        if self._mine is None or self._mine[0] != pid:
            first = 2 * (int(getattr(current_process(), "index", 0)) % (self._count // 2))
            left = [found.began_at if (found := self._read(place)) else 0.0 for place in (first, first + 1)]
            self._mine = pid, first + left.index(min(left))
        return self._mine[1]

    def _write(self, place: int, record: bytes) -> None:
        self._memory[place * _SIZE : (place + 1) * _SIZE] = record

    def _read(self, place: int) -> Carried | None:
        """None for an empty place, and for one that is just being written: it is read again soon."""
        record = self._memory[place * _SIZE : (place + 1) * _SIZE]
        if record == _NOTHING or _CHECKSUM.pack(zlib.crc32(record[_CHECKSUM.size :])) != record[: _CHECKSUM.size]:
            return None
        pid, began_at, limit_s, term, epoch, *texts = _RECORD.unpack_from(record, _CHECKSUM.size)
        names = dict(zip(("bundle", "parcel", "job"), (text.rstrip(b"\0").decode() for text in texts), strict=True))
        return Carried(pid=pid, began_at=began_at, epoch=epoch, term=term, limit_s=limit_s, **names)


def _packed(one: Carried) -> bytes:
    names = one.bundle.encode(), one.parcel.encode(), one.job.encode()
    record = _RECORD.pack(one.pid, one.began_at, one.limit_s, one.term, one.epoch, *names)
    return _CHECKSUM.pack(zlib.crc32(record)) + record


_shared: list[Slots] = []


def share(processes: int) -> Slots:
    """Make the memory that the processes to be forked from this one share with it."""
    _shared[:] = [Slots(processes)]
    return _shared[0]


def shared() -> Slots:
    """That memory."""
    return _shared[0]


@contextmanager
def carrying(order: Bundle, *, parcel: str = "") -> Iterator[None]:
    """While this process carries out a bundle, its worker's watch sees that; where none watches it is just carried out."""
    if not _shared:
        yield
        return
    with _shared[0].carrying(order, parcel=parcel):
        yield

"""Records on disk that say for themselves whether they are whole and whose they are: a payload and a trailer of 12 bytes.

The trailer holds a magic, the CRC-32 of the payload and its length. The CRC goes on from a seed made of what the record
belongs to, so a record copied to another tile's name, or from another job's folder, does not match. Only regular files
count: a link, a folder or a pipe of the right name is no record.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_TRAILER = struct.Struct("<4sII")
_MAGIC = b"TIL2"
#: What follows the payload.
TRAILER_BYTES = _TRAILER.size
# Without O_NONBLOCK a pipe of the right name would hold its reader up for ever.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_FILE = {errno.ELOOP, errno.ENXIO, errno.EISDIR}


class TilesLost(Exception):
    """What was finished is not on the disk as it should be. Planning the job again finds out what is left."""


class FolderGone(TilesLost):
    """The job's folder is not there: the job was deleted, or the folder was discarded before the job was claimed."""


class CorruptTile(TilesLost):
    """Something is published under the name of a record that is not that record, whole."""


class MissingTile(TilesLost, FileNotFoundError):
    """Nothing is published under this name."""


def seed_of(owner: str, name: int | str) -> int:
    """Where the CRC of a record begins: differs for every tile of one owner (a digest), and almost surely between owners."""
    # Numbers of fixed width that differ in 32 bits only never share a CRC; texts of different lengths might.
    data = struct.pack("<Q", name) if isinstance(name, int) else name.encode()
    return zlib.crc32(data, zlib.crc32(owner.encode()))


def trailer(payload: bytes, seed: int) -> bytes:
    """What follows the payload in a record."""
    return _TRAILER.pack(_MAGIC, zlib.crc32(payload, seed), len(payload))


def payload_of(record: bytes, seed: int, where: object) -> bytes:
    """The payload of a whole record. Raises CorruptTile naming `where`."""
    payload, end = record[: -_TRAILER.size], record[-_TRAILER.size :]
    if len(end) != _TRAILER.size or _TRAILER.unpack(end) != (_MAGIC, zlib.crc32(payload, seed), len(payload)):
        raise CorruptTile(str(where))
    return payload


@contextmanager
def opened(path: Path | str) -> Iterator[tuple[int, int]]:
    """Descriptor and size in bytes of a regular file. Raises MissingTile, CorruptTile for what is none, OSError of the disk."""
    try:
        descriptor = os.open(path, _FLAGS)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingTile(str(path)) from error
    except OSError as error:
        if error.errno in _NO_FILE:
            raise CorruptTile(str(path)) from error
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise CorruptTile(str(path))
        yield descriptor, status.st_size
    finally:
        os.close(descriptor)


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """At most `size` bytes from `offset` on; fewer only where the file ends."""
    data = os.pread(descriptor, size, offset)
    while 0 < len(data) < size and (more := os.pread(descriptor, size - len(data), offset + len(data))):
        data += more
    return data


def read_file(path: Path | str) -> bytes:
    """All of a regular file. Raises as `opened`."""
    with opened(path) as (descriptor, size):
        return read_at(descriptor, size, 0)


def put(temporary: Path, target: Path, is_complete: Callable[[], bool]) -> bool:
    """Give a complete file its name; False when a complete one has it already, which then stays.

    What has the name and is not complete is replaced. Raises FileNotFoundError when the folder is not there.
    """
    try:
        os.link(temporary, target)
    except FileExistsError:
        if is_complete():
            return False
        if target.is_dir() and not target.is_symlink():
            clear(target)
        temporary.replace(target)
    return True


def clear(path: Path) -> None:
    """Remove whatever is there, a folder with all it holds; a link, not what it points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)

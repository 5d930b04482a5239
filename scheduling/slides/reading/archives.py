"""ZIP archives of one slide's files, from people we do not know: nothing leaves the folder, nothing grows beyond its bounds."""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from scheduling.errors import TooLarge, UnreadableSlide

MAGIC = b"PK\x03\x04"
_MOST_FILES = 20_000
_MOST_DEPTH = 8
#: Slides are compressed already; what is small may be text.
_MOST_RATIO = 50
_ALWAYS_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024
_IS_ENCRYPTED = 0x1
#: What file managers add.
_JUNK = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")
_PLAIN_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


def looks_like_zip(path: Path) -> bool:
    """Whether the first bytes are those of a ZIP archive with something in it."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def unpack(archive: Path, target: Path, *, most_bytes: int) -> None:
    """Write the files of `archive` into the new folder `target`. Raises TooLarge beyond `most_bytes` in all, UnreadableSlide.

    Sizes are counted as they are written: what the archive says of them is only its word.
    """
    most = min(most_bytes, max(_ALWAYS_BYTES, _MOST_RATIO * archive.stat().st_size))
    left = most
    target.mkdir()
    try:
        with zipfile.ZipFile(archive) as opened:
            for place, entry in _files(opened):
                file = target / place
                file.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(entry) as source, file.open("xb") as out:
                    left -= _copy(source, out, left)
    except _Full:
        if most == most_bytes:
            raise TooLarge from None
        raise UnreadableSlide(f"The archive unpacks to more than {_MOST_RATIO} times its size.") from None
    except FileExistsError as error:
        raise UnreadableSlide("The archive holds a file twice.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise UnreadableSlide(f"The archive is damaged: {error}") from error


class _Full(Exception):
    """There is no room left for what the archive holds."""


def _files(archive: zipfile.ZipFile) -> list[tuple[PurePosixPath, zipfile.ZipInfo]]:
    """What is to be written where; all are looked at before anything is written."""
    entries = [entry for entry in archive.infolist() if not entry.is_dir() and not _is_junk(entry)]
    if len(entries) > _MOST_FILES:
        raise UnreadableSlide(f"The archive holds more than {_MOST_FILES:,} files.")
    for entry in entries:
        if entry.header_offset < 0:
            raise UnreadableSlide("The archive is damaged: it places a file before its own beginning.")
        if entry.flag_bits & _IS_ENCRYPTED:
            raise UnreadableSlide("The archive is encrypted.")
        if entry.compress_type not in _PLAIN_METHODS:
            raise UnreadableSlide("The archive is compressed in a way that is not read here; use plain ZIP (deflate).")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise UnreadableSlide("The archive holds a link.")
    return [(_place(entry), entry) for entry in entries]


def _is_junk(entry: zipfile.ZipInfo) -> bool:
    return any(part in _JUNK or part.startswith("._") for part in PurePosixPath(entry.filename).parts)


def _place(entry: zipfile.ZipInfo) -> PurePosixPath:
    """Where an entry goes, relative to the target. Raises UnreadableSlide for a way out of it."""
    name = entry.filename
    parts = name.split("/")
    is_safe = name.isprintable() and not {"", ".", ".."} & set(parts) and not set('\\:*?"<>|') & set(name)
    if not is_safe or len(parts) > _MOST_DEPTH or any(len(part.encode()) > 255 for part in parts):
        raise UnreadableSlide(f"The archive holds a file with a name that is not taken: {name[:80]!r}.")
    return PurePosixPath(name)


def _copy(source: IO[bytes], out: IO[bytes], most_bytes: int) -> int:
    copied = 0
    while chunk := source.read(_CHUNK_BYTES):
        copied += len(chunk)
        if copied > most_bytes:
            raise _Full
        out.write(chunk)
    return copied

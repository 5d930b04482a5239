"""Slides that are several files: MIRAX (.mrxs and its folder), Hamamatsu (.vms, .vmu and what they name), a series of DICOM files.

The first file of a set is the one to open. Lists of files may name anything: names that lead elsewhere are refused.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from scheduling.errors import UnreadableSlide

#: Of files that can be opened as a slide.
SUFFIXES = (
    *(".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif", ".czi", ".dcm"),
    *(".png", ".jpg", ".jpeg"),
)
#: Beginnings of formats that are one file.
SINGLE = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"ZISRAWFILE", b"SQLite format 3\0", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_MIRAX_FILE = re.compile(r"indexfile|file_\d+")
_HAMAMATSU = (".vms", ".vmu")
_DICOM = b"DICM"
_DICOM_OFFSET = 128
#: (0020,000E) Series Instance UID with its explicit VR; it comes early in the header.
_SERIES = re.compile(rb"\x20\x00\x0e\x00UI(..)", re.DOTALL)
_DICOM_HEADER_BYTES = 65_536
_MOST_INDEX_BYTES = 4 * 1024 * 1024


def members(path: Path) -> tuple[Path, ...]:
    """The further files of the slide that begins with `path`, in order of name; () for a slide of one file.

    Raises UnreadableSlide when one is missing or is named by a way out of the folder, OSError.
    """
    suffix = path.suffix.lower()
    if suffix == ".mrxs":
        return _mirax(path)
    if suffix in _HAMAMATSU:
        return _hamamatsu(path)
    return _dicom(path) if is_dicom(path) else ()


def main_file(folder: Path) -> Path:
    """The file to open of the one slide that lies in `folder` or below. Raises UnreadableSlide when there is none, or several."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    lists = [file for file in files if file.suffix.lower() in (".mrxs", *_HAMAMATSU)]
    found = lists or dicom_series(files) or [file for file in files if _begins(file, SINGLE)]
    if len(found) != 1:
        what = "no slide in a format that is known here" if not found else f"{len(found):,} slides, where one is expected"
        raise UnreadableSlide(f"It holds {what}.")
    return found[0]


def dicom_series(files: Iterable[Path]) -> list[Path]:
    """The first file, by name, of each DICOM series among `files`."""
    first: dict[tuple[Path, bytes], Path] = {}
    for file in sorted(files):
        if is_dicom(file):
            first.setdefault((file.parent, _series_of(file)), file)
    return list(first.values())


def is_dicom(path: Path) -> bool:
    """Whether the file says of itself that it is DICOM."""
    with path.open("rb") as file:
        return file.read(_DICOM_OFFSET + len(_DICOM))[_DICOM_OFFSET:] == _DICOM


def is_single(path: Path) -> bool:
    """Whether the file begins like a format that needs no other file."""
    return _begins(path, SINGLE) or is_dicom(path)


def _begins(path: Path, beginnings: tuple[bytes, ...]) -> bool:
    with path.open("rb") as file:
        return file.read(max(map(len, beginnings))).startswith(beginnings)


def _mirax(path: Path) -> tuple[Path, ...]:
    folder = path.with_suffix("")
    index = folder / "Slidedat.ini"
    if not index.is_file():
        raise UnreadableSlide(f"The folder {folder.name} with Slidedat.ini, which belongs beside the file, is not there.")
    _check_names(folder, _values(index, _MIRAX_FILE.fullmatch))
    return tuple(file for file in sorted(folder.iterdir()) if file.is_file())


def _hamamatsu(path: Path) -> tuple[Path, ...]:
    needed = _values(path, lambda key: key.startswith(("imagefile", "mapfile")))
    further = _values(path, lambda key: key.startswith(("macroimage", "optimisationfile")))
    _check_names(path.parent, needed)
    _check_names(path.parent, further, must_exist=False)
    return tuple(file for file in sorted(path.parent / name for name in {*needed, *further}) if file.is_file())


def _dicom(path: Path) -> tuple[Path, ...]:
    series = _series_of(path)
    beside = (file for file in sorted(path.parent.iterdir()) if file != path and file.is_file())
    return tuple(file for file in beside if is_dicom(file) and _series_of(file) == series)


def _series_of(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(_DICOM_HEADER_BYTES)
    found = _SERIES.search(head)
    return head[found.end() : found.end() + int.from_bytes(found[1], "little")].rstrip(b"\0 ") if found else b""


def _values(index: Path, wanted: Callable[[str], object]) -> list[str]:
    """Values of the wanted keys of an INI file, whatever their section; keys in lower case."""
    if index.stat().st_size > _MOST_INDEX_BYTES:
        raise UnreadableSlide(f"{index.name} is too large for a list of files.")
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",), allow_no_value=True)
    try:
        parser.read_string(index.read_text("utf-8-sig", errors="replace"))
    except configparser.Error as error:
        raise UnreadableSlide(f"{index.name} is no list of files: {error.message}") from error
    return [value for section in parser.values() for key, value in section.items() if value and wanted(key)]


def _check_names(folder: Path, names: list[str], *, must_exist: bool = True) -> None:
    for name in names:
        if "/" in name or "\\" in name or name in {".", ".."} or "\0" in name:
            raise UnreadableSlide(f"The slide names a file outside its folder: {name!r}.")
        if must_exist and not (folder / name).is_file():
            raise UnreadableSlide(f"The file {name}, which belongs to the slide, is not there.")

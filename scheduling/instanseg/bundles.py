"""Files that people give as models: a TorchScript file, or a bundle as InstanSeg releases it (a ZIP archive with one .pt in it).

Both are ZIP archives. Nothing is unpacked but the one TorchScript file, under a name of ours and within bounds.
"""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from scheduling.instanseg.facts import ModelUnusable

#: The released ones have 15 MB; other backbones a few hundred.
MAX_MODEL_BYTES = 2 * 2**30
_MOST_ENTRIES = 20_000
_CHUNK_BYTES = 2**20
_IS_ENCRYPTED = 0x1
#: What every TorchScript archive holds, in a folder of any name.
_OF_TORCHSCRIPT = {"data.pkl", "constants.pkl"}


def torchscript_in(given: Path, folder: Path) -> Path:
    """The TorchScript file: the given one itself, or the one of the bundle, written into `folder`. Raises ModelUnusable, OSError."""
    if given.stat().st_size > MAX_MODEL_BYTES:
        raise ModelUnusable(f"{given.name} is larger than {MAX_MODEL_BYTES // 2**30} GiB.")
    try:
        with zipfile.ZipFile(given) as archive:
            entry = _model_entry(archive, given.name)
            return given if entry is None else _unpacked(archive, entry, folder / "model.pt")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise ModelUnusable(f"{given.name} is neither a TorchScript file nor a ZIP archive with one: {error}") from error


def suggested_name(given: Path) -> str:
    """What a model may be called when nobody says: the name of its file, without what was added to it."""
    return given.name.removesuffix(".zip").removesuffix(".pt")


def _model_entry(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo | None:
    """The one .pt of a bundle; None when the archive is a TorchScript file itself."""
    entries = archive.infolist()
    if len(entries) > _MOST_ENTRIES:
        raise ModelUnusable(f"{name} holds more than {_MOST_ENTRIES:,} files.")
    for entry in entries:
        _check(entry, name)
    models = [entry for entry in entries if _is_model(entry)]
    if not models and {PurePosixPath(entry.filename).name for entry in entries} >= _OF_TORCHSCRIPT:
        return None
    if len(models) != 1:
        raise ModelUnusable(f"{name} holds {len(models) or 'no'} .pt files; a bundle has one.")
    return models[0]


def _is_model(entry: zipfile.ZipInfo) -> bool:
    place = PurePosixPath(entry.filename)
    return place.suffix == ".pt" and "__MACOSX" not in place.parts


def _check(entry: zipfile.ZipInfo, name: str) -> None:
    """No entry may lead out, be a link or be encrypted: whoever made such an archive made no model."""
    parts = entry.filename.rstrip("/").split("/")
    if {"", ".", ".."} & set(parts) or "\\" in entry.filename or not entry.filename.isprintable():
        raise ModelUnusable(f"{name} holds a file with a name that leads out of it: {entry.filename[:80]!r}.")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise ModelUnusable(f"{name} holds a link: {entry.filename[:80]!r}.")
    if entry.flag_bits & _IS_ENCRYPTED:
        raise ModelUnusable(f"{name} is encrypted.")


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> Path:
    """Never more than the archive says: `zipfile` reads no further than that, and takes what is longer for damaged."""
    if entry.file_size > MAX_MODEL_BYTES:
        raise ModelUnusable(f"{entry.filename} unpacks to more than {MAX_MODEL_BYTES // 2**30} GiB.")
    with archive.open(entry) as source, target.open("xb") as out:
        shutil.copyfileobj(source, out, _CHUNK_BYTES)
    return target

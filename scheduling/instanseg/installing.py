"""Installing a model: the file is found or fetched, compared with the hash given, probed, and put under its own hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from scheduling.instanseg import downloading, probing
from scheduling.instanseg.bundles import suggested_name, torchscript_in
from scheduling.instanseg.devices import NO_TORCH, has_torch
from scheduling.instanseg.facts import ModelFacts, ModelUnusable
from scheduling.instanseg.store import ModelStore, is_model_name, is_sha256

Say = Callable[[str], object]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the operator asks for."""

    #: A file, or a name of `downloading.INDEX`; a file goes before a name.
    source: str
    #: Of the file given or fetched, hexadecimal; None only for a file.
    sha256: str | None = None
    #: None = that of the file.
    name: str | None = None


def install(wanted: Wanted, data_dir: Path, say: Say) -> ModelFacts:
    """Install the model, or say that it is installed; what is done is told line by line. Raises ModelUnusable, NotDownloaded, OSError."""
    is_file = Path(wanted.source).is_file()
    _check(wanted, is_file=is_file)
    if not has_torch():
        raise ModelUnusable(NO_TORCH)
    with _folder(data_dir) as folder:
        given = Path(wanted.source) if is_file else _fetched(wanted.source, folder, say)
        _compare(given, wanted.sha256, say)
        file = torchscript_in(given, folder)
        return _added(ModelStore(data_dir), file, wanted.name or suggested_name(given), data_dir, say)


def _check(wanted: Wanted, *, is_file: bool) -> None:
    if not is_file and wanted.source not in downloading.INDEX:
        raise ModelUnusable(f"There is no file {wanted.source}, nor is that a released model: {', '.join(downloading.INDEX)}.")
    if wanted.sha256 is None and not is_file:
        raise ModelUnusable("A model is fetched only with --sha256: the hash of the .zip, from a source that you trust.")
    if wanted.sha256 is not None and not is_sha256(wanted.sha256.lower()):
        raise ModelUnusable("--sha256 must be 64 hexadecimal digits.")


@contextmanager
def _folder(data_dir: Path) -> Iterator[Path]:
    place = data_dir / "tmp"
    place.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="model-", dir=place) as folder:
        yield Path(folder)


def _fetched(name: str, folder: Path, say: Say) -> Path:
    url, target = downloading.INDEX[name], folder / f"{name}.zip"
    say(f"fetching {url}")
    downloading.download(url, target)
    return target


def _compare(given: Path, expected: str | None, say: Say) -> None:
    """Raises ModelUnusable when the file is not the one that was meant."""
    found = sha256_of(given)
    if expected is None:
        say(f"SHA-256 of {given.name}: {found} (not compared with anything; give it as --sha256)")
    elif found != expected.lower():
        raise ModelUnusable(f"{given.name} has the SHA-256 {found}, not {expected.lower()}: nothing was installed.")


def _added(store: ModelStore, file: Path, name: str, data_dir: Path, say: Say) -> ModelFacts:
    if not is_model_name(name):
        raise ModelUnusable(f"{name!r} cannot be the name of a model; give one with --name: 1 to 64 of A-Z a-z 0-9 . _ -")
    sha256 = sha256_of(file)
    if (there := store.find(sha256)) is None:
        say("probing it; this takes a minute")
        store.add(file, _facts(probing.probed(file, data_dir), name, sha256))
        there = store.find(sha256)
    else:
        say("it is installed already")
    if there is None:
        raise ModelUnusable(f"{store.path(sha256).parent} is damaged; remove that folder and install the model again.")
    if there.name != name:
        raise ModelUnusable(f"This file is installed as {there.name}; one file has one name.")
    return there


def _facts(found: dict[str, Any], name: str, sha256: str) -> ModelFacts:
    """With what the probe cannot know."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    try:
        return ModelFacts.from_json(orjson.dumps({**found, "name": name, "sha256": sha256, "installed_at": now}))
    except ValueError as error:
        raise ModelUnusable(f"The probe's answer cannot be used: {error}") from error


def sha256_of(file: Path) -> str:
    """Hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()

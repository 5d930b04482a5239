"""Installed models: DATA_DIR/models/<sha256>/{model.pt, facts.json}. A folder appears complete or not at all, and never changes."""

from __future__ import annotations

import logging
import os
import re
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from scheduling.instanseg.facts import ModelFacts

logger = logging.getLogger(__name__)

MODEL_FILE, FACTS_FILE = "model.pt", "facts.json"
_NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,64}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def is_model_name(name: str) -> bool:
    """Whether a model may be called so: 1 to 64 of A-Z a-z 0-9 . _ -, not . or .., nor what could be taken for a hash."""
    return bool(_NAME.match(name)) and not _SHA256.match(name)


def is_sha256(text: str) -> bool:
    """Whether it is a SHA-256 as it is kept here: 64 hexadecimal digits, small letters."""
    return bool(_SHA256.match(text))


class ModelStore:
    """The models of one DATA_DIR."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "models"

    def all(self) -> list[ModelFacts]:
        """By name, of each name the newest first. What cannot be read is left out, and logged."""
        found = [facts for folder in self._folders() if (facts := self._facts(folder))]
        newest_first = sorted(found, key=lambda facts: (facts.installed_at, facts.sha256), reverse=True)
        return sorted(newest_first, key=lambda facts: facts.name)

    def find(self, name_or_sha256: str) -> ModelFacts | None:
        """The model with that hash, or the newest of that name; None when there is none."""
        return next((facts for facts in self.all() if name_or_sha256 in {facts.name, facts.sha256}), None)

    def path(self, sha256: str) -> Path:
        """Where the file of a model lies. Raises ValueError for what is no hash."""
        if not is_sha256(sha256):
            raise ValueError(f"{sha256!r} is no SHA-256 of a model")
        return self._folder / sha256 / MODEL_FILE

    def add(self, file: Path, facts: ModelFacts) -> None:
        """Copy the file in, under its hash. Does nothing when it is there already: whoever was first has written the same bytes.

        Raises ValueError for facts with a name or a hash that cannot be, OSError.
        """
        target = self.path(facts.sha256).parent
        if not is_model_name(facts.name):
            raise ValueError(f"{facts.name!r} is no name for a model")
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f".{facts.sha256[:8]}.{uuid4().hex}"
        temporary.mkdir()
        try:
            _write(temporary / MODEL_FILE, file)
            (temporary / FACTS_FILE).write_bytes(facts.to_json())
            with suppress(FileExistsError):
                _rename(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def remove(self, sha256: str) -> None:
        """Take a model out, at once and whole. Raises FileNotFoundError when it is not there, ValueError for what is no hash."""
        gone = self._folder / f".{sha256[:8]}.{uuid4().hex}"
        self.path(sha256).parent.rename(gone)
        shutil.rmtree(gone)

    def _folders(self) -> list[Path]:
        try:
            with os.scandir(self._folder) as entries:
                return [self._folder / entry.name for entry in entries if is_sha256(entry.name)]
        except FileNotFoundError:
            return []

    @staticmethod
    def _facts(folder: Path) -> ModelFacts | None:
        try:
            facts = ModelFacts.from_json((folder / FACTS_FILE).read_bytes())
        except (OSError, ValueError) as error:
            logger.warning("an installed model cannot be read: %s: %s", folder, error, extra={"action": "model_unreadable"})
            return None
        return replace(facts, sha256=folder.name)


def _write(target: Path, source: Path) -> None:
    """Copy, to the disk: what lies under its hash must hold after a power cut too."""
    with source.open("rb") as read, target.open("wb") as out:
        shutil.copyfileobj(read, out, 1024 * 1024)
        out.flush()
        os.fsync(out.fileno())


def _rename(temporary: Path, target: Path) -> None:
    """Raises FileExistsError when the target is there."""
    try:
        temporary.rename(target)
    except OSError as error:
        if target.is_dir():  # a folder with something in it is never replaced
            raise FileExistsError(str(target)) from error
        raise

"""Where the output of the programs of `make run` goes: standard output, and a rotating file each in DATA_DIR/logs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from logging.handlers import RotatingFileHandler
from pathlib import Path

ROOT = "make-run"
FILE_BYTES = 10 * 2**20
FILES_KEPT = 3


def program_log(name: str) -> logging.Logger:
    """The log that takes a program's lines."""
    return logging.getLogger(f"{ROOT}.{name}")


class ShortName(logging.Formatter):
    """`web        | the line`."""

    def format(self, record: logging.LogRecord) -> str:
        """Prefix the program's name."""
        return f"{record.name.rpartition('.')[2]:<9} | {record.getMessage()}"


def begin(folder: Path, names: Iterable[str]) -> None:
    """Send the lines of these programs to standard output and to `folder`/<name>.log."""
    screen = logging.StreamHandler(sys.stdout)
    screen.setFormatter(ShortName())
    root = logging.getLogger(ROOT)
    root.setLevel(logging.INFO)
    root.propagate = False
    root.handlers = [screen]
    for name in names:
        file = RotatingFileHandler(folder / f"{name}.log", maxBytes=FILE_BYTES, backupCount=FILES_KEPT, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(message)s"))
        program_log(name).handlers = [file]

"""The figures a benchmark hands in, and how they are printed and kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Figure:
    """One measured number. `unit` says what it is of, `better` which way it should move."""

    value: float
    unit: str
    better: Literal["lower", "higher"]


def write(figures: Mapping[str, Figure], file: Path) -> None:
    """Write `{"<figure>": {"value", "unit", "better"}, …}`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({name: asdict(figure) for name, figure in figures.items()}, indent=2) + "\n")


def table(name: str, figures: Mapping[str, Figure]) -> str:
    """The figures of one benchmark as aligned lines."""
    width = max(len(figure) for figure in figures)
    rows = [f"  {label:<{width}}  {figure.value:>12,.4g} {figure.unit} ({figure.better} is better)" for label, figure in figures.items()]
    return "\n".join([name, *rows])

"""`make bench`: run the benchmarks named as arguments (all when none is), print a table, write var/bench/<name>.json."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

from tests import bench
from tests.bench.figures import table, write

PREFIX = "bench_"
#: Installed by hand (requirements-instanseg-dev.txt).
OPTIONAL = ("torch", "instanseg")
RESULTS = Path(__file__).resolve().parents[2] / "var" / "bench"


def available() -> list[str]:
    """The names of the benchmarks there are."""
    return sorted(module.name.removeprefix(PREFIX) for module in pkgutil.iter_modules(bench.__path__) if module.name.startswith(PREFIX))


def main(wanted: list[str]) -> int:
    """Run; 2 when a name is unknown."""
    if unknown := sorted(set(wanted) - set(available())):
        print(f"error: no benchmark {', '.join(unknown)}; there are: {', '.join(available())}", file=sys.stderr)
        return 2
    for name in wanted or available():
        try:
            figures = importlib.import_module(f"tests.bench.{PREFIX}{name}").measure()
        except ModuleNotFoundError as error:
            if error.name not in OPTIONAL:
                raise
            print(f"note: {name} is not measured, as {error.name} is not installed", flush=True)
            continue
        write(figures, RESULTS / f"{name}.json")
        print(table(name, figures), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

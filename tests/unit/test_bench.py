"""What `make bench` finds, prints and keeps."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench.__main__ import available
from tests.bench.bench_policy import measure
from tests.bench.figures import Figure, table, write


def test_the_runner_finds_benchmarks_by_their_file_names() -> None:
    assert "policy" in available()


def test_figures_are_kept_with_value_unit_and_direction(tmp_path: Path) -> None:
    write({"bundles": Figure(1.02, "ratio to ideal", "lower")}, tmp_path / "new" / "x.json")
    assert json.loads((tmp_path / "new" / "x.json").read_text()) == {
        "bundles": {"value": 1.02, "unit": "ratio to ideal", "better": "lower"}
    }


def test_the_policy_benchmark_measures_something_and_its_table_says_so() -> None:
    figures = measure()
    assert all(figure.value > 0 for figure in figures.values())
    assert "ms (lower is better)" in table("policy", figures)

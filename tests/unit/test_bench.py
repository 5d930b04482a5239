"""What `make bench` finds, prints and keeps."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from scheduling.slides.synthetic.slide import write_sample
from tests.bench import bench_types
from tests.bench.__main__ import available, main
from tests.bench.bench_policy import measure
from tests.bench.device import Use, sampled
from tests.bench.figures import Figure, table, write
from tests.support import environment
from tests.support.waiting import eventually


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


def test_a_benchmark_that_needs_torch_is_left_out_aloud_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("tests.bench.bench_instanseg", "tests.support.standin"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["instanseg"]) == 0
    assert capsys.readouterr().out == "note: instanseg is not measured, as torch is not installed\n"


def test_each_type_has_its_rates_and_its_time_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sample(tmp_path / "small.tif", width=1200, height=900, seed=11)
    monkeypatch.setenv("BENCH_SLIDES", str(tmp_path / "small.tif"))
    monkeypatch.setattr(environment, "has_torch", lambda: False)
    figures = bench_types.measure()
    assert "INSTANSEG_WSI is not measured" in capsys.readouterr().out
    for name, rates in (("TISSUE_MASK", ("slide", "windows", "tissue")), ("SEGMENT_CELLS", ("slide", "windows", "tissue", "cells"))):
        assert all(figures[f"{name}: {rate}"].value > 0 for rate in rates)
        split = [figure.value for label, figure in figures.items() if label.startswith(f"{name}: time: ")]
        assert len(split) >= 5
        assert sum(split) == pytest.approx(100, abs=0.5)
    assert figures["SEGMENT_CELLS: pixels to polygons"].value > 0


def test_what_a_device_says_of_its_use_is_averaged(tmp_path: Path) -> None:
    use, said = Use(name="made up", peak_mib=1023.7), tmp_path / "said"
    with sampled(["sh", "-c", f"echo 40; echo '[N/A]'; echo 81; touch {said}; exec sleep 60"], use.busy):
        eventually(said.exists, "numbers")
    assert use.busy == [40, 81]
    assert {name: figure.value for name, figure in use.figures().items()} == {"mean use": 60.5, "peak memory": 1024}


def test_a_device_that_says_nothing_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(Use(name="made up").figures()) == ["peak memory"]
    assert "cannot be said" in capsys.readouterr().out

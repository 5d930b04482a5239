"""Registration looks at a file in a process of its own, and survives whatever becomes of that."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scheduling.errors import UnreadableSlide
from scheduling.slides.reading.reader import describe
from scheduling.slides.reading.registration import describe_apart
from scheduling.slides.synthetic.slide import write_sample


def test_a_slide_is_described_as_in_this_process(tmp_path: Path) -> None:
    sample = tmp_path / "sample.tif"
    write_sample(sample, width=700, height=500, seed=3)
    assert describe_apart(sample) == describe(sample)


def test_a_file_that_is_no_slide_is_refused_with_the_reason(tmp_path: Path) -> None:
    file = tmp_path / "notes.tif"
    file.write_text("not a slide")
    with pytest.raises(UnreadableSlide) as here:
        describe(file)
    with pytest.raises(UnreadableSlide) as apart:
        describe_apart(file)
    assert apart.value.message == here.value.message


def test_a_file_that_ends_its_reader_is_refused_as_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killer = tmp_path / "python"
    killer.write_text("#!/bin/sh\nkill -ABRT $$\n")
    killer.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(killer))
    with pytest.raises(UnreadableSlide, match="damaged"):
        describe_apart(tmp_path / "x.tif")

"""Static files of an environment: collected once, copied into each folder, collected again when anything of them has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from workflowsite import collected


@pytest.fixture(autouse=True)
def _kept_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collected, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(collected, "digest", lambda: "now")


def folder(place: Path, text: str = "") -> Path:
    """A folder of static files; empty without text."""
    place.mkdir()
    if text:
        (place / "app.js").write_text(text)
    return place


def test_what_one_folder_has_collected_the_next_gets(tmp_path: Path) -> None:
    first, second = folder(tmp_path / "first", "new"), folder(tmp_path / "second")
    assert not collected.restore(second)
    collected.keep(first)
    assert collected.restore(first)
    assert collected.restore(second)
    assert (second / "app.js").read_text() == "new"


def test_files_of_another_digest_are_collected_again_and_replace_what_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = folder(tmp_path / "first", "old")
    collected.keep(first)
    monkeypatch.setattr(collected, "digest", lambda: "later")
    assert not collected.restore(first)
    collected.keep(first)
    assert [path.name for path in collected.KEPT.iterdir()] == ["later"]


def test_a_copy_that_was_cut_short_is_made_again(tmp_path: Path) -> None:
    first, second = folder(tmp_path / "first", "new"), folder(tmp_path / "second", "half")
    collected.keep(first)
    assert collected.restore(second)
    assert (second / "app.js").read_text() == "new"


def test_an_environment_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    collected.KEPT.write_text("in the way")
    first = folder(tmp_path / "first", "new")
    collected.keep(first)
    assert collected.restore(first)
    assert not collected.restore(folder(tmp_path / "second"))

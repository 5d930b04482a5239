"""Where slides may lie: links may lead about inside a root, and never out of it, however the files change after registration."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from scheduling.errors import UnreadableSlide
from scheduling.slides.reading.places import RootAway, inside, is_away, located
from tests.unit.slides.mirax import write_mirax


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    for folder in ("data/slides/shelf", "data/uploads/1", "share/deep", "outside"):
        (tmp_path / folder).mkdir(parents=True)
    for place in ("data/slides/shelf/a.png", "data/uploads/1/slide.png", "share/a.png", "share/deep/b.png", "outside/c.png"):
        Image.new("RGB", (10, 10)).save(tmp_path / place)
    return tmp_path / "data"


def test_a_slide_is_found_under_its_root_on_this_host(data_dir: Path) -> None:
    roots = {"share": data_dir.parent / "share"}
    assert located(data_dir, roots, "", "uploads/1/slide.png") == data_dir / "uploads/1/slide.png"
    assert located(data_dir, roots, "", "slides/shelf/a.png") == data_dir / "slides/shelf/a.png"
    assert located(data_dir, roots, "share", "deep/b.png") == data_dir.parent / "share/deep/b.png"
    elsewhere = shutil.copytree(data_dir.parent / "share", data_dir.parent / "other host")
    assert located(data_dir, {"share": elsewhere}, "share", "deep/b.png") == elsewhere / "deep/b.png"


def test_a_root_that_is_not_there_is_told_from_a_file_that_has_gone(data_dir: Path) -> None:
    share = data_dir.parent / "share"
    with pytest.raises(UnreadableSlide, match="no such file any more"):
        located(data_dir, {"share": share}, "share", "gone.png")
    with pytest.raises(RootAway, match="SLIDE_ROOTS"):
        located(data_dir, {}, "share", "a.png")
    shutil.rmtree(share)
    with pytest.raises(RootAway, match="share is not there"):
        located(data_dir, {"share": share}, "share", "a.png")
    share.mkdir()  # a mount point without its share
    assert is_away(share)
    with pytest.raises(RootAway):
        located(data_dir, {"share": share}, "share", "a.png")


def test_links_lead_about_inside_a_root_and_never_out(data_dir: Path) -> None:
    share, roots = data_dir.parent / "share", {"share": data_dir.parent / "share"}
    (share / "in.png").symlink_to("deep/b.png")
    (share / "folder").symlink_to("deep")
    assert located(data_dir, roots, "share", "in.png") == located(data_dir, roots, "share", "folder/b.png") == share / "deep/b.png"
    (share / "out.png").symlink_to(data_dir.parent / "outside/c.png")
    (share / "theirs").symlink_to(data_dir / "uploads")
    (share / "loop").symlink_to("loop")
    for path in ("out.png", "theirs/1/slide.png", "loop", "loop/x.png"):
        with pytest.raises(UnreadableSlide):
            located(data_dir, roots, "share", path)
    # A file that is replaced by a link after it was registered.
    (share / "a.png").unlink()
    (share / "a.png").symlink_to(data_dir / "uploads/1/slide.png")
    with pytest.raises(UnreadableSlide, match="leads out"):
        located(data_dir, roots, "share", "a.png")
    (data_dir / "slides/shelf/a.png").unlink()
    (data_dir / "slides/shelf/a.png").symlink_to(data_dir / "uploads/1/slide.png")
    with pytest.raises(UnreadableSlide, match="leads out"):
        located(data_dir, roots, "", "slides/shelf/a.png")


def test_a_root_reached_by_a_link_may_not_open_the_data_folder(data_dir: Path) -> None:
    root = data_dir.parent / "root"
    root.symlink_to(data_dir.parent)
    with pytest.raises(UnreadableSlide, match="leads out"):
        inside(root, "data/uploads/1/slide.png", data_dir=data_dir)
    assert inside(root, "share/a.png", data_dir=data_dir).name == "a.png"


def test_the_further_files_of_a_slide_may_not_be_links_that_lead_out(data_dir: Path) -> None:
    share = data_dir.parent / "share"
    write_mirax(share / "m.mrxs", np.full((200, 200, 3), 220, np.uint8))
    write_mirax(data_dir.parent / "outside/m.mrxs", np.full((200, 200, 3), 90, np.uint8))
    assert inside(share, "m.mrxs", data_dir=data_dir) == share / "m.mrxs"
    (share / "m/Data0000.dat").unlink()
    (share / "m/Data0000.dat").symlink_to(data_dir.parent / "outside/m/Data0000.dat")
    with pytest.raises(UnreadableSlide, match="leads out"):
        inside(share, "m.mrxs", data_dir=data_dir)


parts = st.sampled_from(["..", ".", "", "a.png", "deep", "b.png", "loop", "/", "\0", "uploads", "data", "~", "é", "\\", "x" * 300])


@given(path=st.lists(parts, max_size=6).map("/".join) | st.text(max_size=30))
@settings(max_examples=200, deadline=None)
def test_whatever_the_path_it_stays_inside_or_is_refused(path: str) -> None:
    base = Path(__file__).parent
    try:
        found = inside(base, path, data_dir=base.parent / "nowhere")
    except UnreadableSlide:
        return
    assert found.is_relative_to(base.resolve())

"""ZIP archives from people we do not know: nothing leaves the folder, nothing grows beyond its bounds."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scheduling.errors import TooLarge, UnreadableSlide
from scheduling.slides.reading import archives
from scheduling.slides.reading.archives import looks_like_zip, unpack


def packed(path: Path, files: dict[str, bytes], change: Callable[[zipfile.ZipInfo], None] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            if change is not None:
                change(entry)
            archive.writestr(entry, content)
    return path


def test_files_come_out_as_they_went_in_without_what_file_managers_add(tmp_path: Path) -> None:
    files = {"case/a.mrxs": b"1", "case/a/Slidedat.ini": b"2", "case/__MACOSX/x": b"3", "case/.DS_Store": b"4", "case/a/._Index.dat": b"5"}
    archive = packed(tmp_path / "a.zip", files)
    assert looks_like_zip(archive)
    unpack(archive, tmp_path / "out", most_bytes=1000)
    found = {str(file.relative_to(tmp_path / "out")): file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert found == {"case/a.mrxs": b"1", "case/a/Slidedat.ini": b"2"}


@pytest.mark.parametrize(
    "name", ["../out.tif", "a/../../out.tif", "/etc/out.tif", "a//b", "./a", "C:\\out.tif", "a\\..\\b", "x\nb", "d/" * 8 + "x", "é" * 200]
)
def test_a_name_that_leads_out_or_is_odd_is_refused(tmp_path: Path, name: str) -> None:
    archive = packed(tmp_path / "a.zip", {"good.tif": b"1", name: b"2"})
    with pytest.raises(UnreadableSlide, match="name that is not taken"):
        unpack(archive, tmp_path / "out", most_bytes=1000)
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and file != archive]


def test_links_encryption_and_rare_methods_are_refused(tmp_path: Path) -> None:
    def link(entry: zipfile.ZipInfo) -> None:
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16

    def rare(entry: zipfile.ZipInfo) -> None:
        entry.compress_type = zipfile.ZIP_BZIP2

    with pytest.raises(UnreadableSlide, match="link"):
        unpack(packed(tmp_path / "l.zip", {"a": b"/etc/passwd"}, link), tmp_path / "1", most_bytes=1000)
    with pytest.raises(UnreadableSlide, match="plain ZIP"):
        unpack(packed(tmp_path / "r.zip", {"a": b"1"}, rare), tmp_path / "2", most_bytes=1000)
    data = bytearray(packed(tmp_path / "e.zip", {"a": b"1"}).read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "e.zip").write_bytes(data)
    with pytest.raises(UnreadableSlide, match="encrypted"):
        unpack(tmp_path / "e.zip", tmp_path / "3", most_bytes=1000)


def test_a_file_that_comes_twice_is_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.tif", b"1")
        archive.writestr("a.tif", b"2")
    with pytest.raises(UnreadableSlide, match="twice"):
        unpack(tmp_path / "a.zip", tmp_path / "out", most_bytes=1000)


def test_sizes_are_counted_and_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = packed(tmp_path / "a.zip", {"a": bytes(600_000), "b": bytes(600_000)})
    with pytest.raises(TooLarge):
        unpack(archive, tmp_path / "1", most_bytes=1_100_000)
    unpack(archive, tmp_path / "2", most_bytes=1_200_000)
    monkeypatch.setattr(archives, "_ALWAYS_BYTES", 1000)
    with pytest.raises(UnreadableSlide, match="50 times"):
        unpack(archive, tmp_path / "3", most_bytes=10**9)
    assert sum(file.stat().st_size for file in (tmp_path / "3").iterdir()) <= 50 * archive.stat().st_size


@given(cut=st.integers(0, 400), flips=st.lists(st.tuples(st.integers(0, 399), st.integers(0, 255)), max_size=4))
@example(cut=0, flips=[(205, 1)])  # a file that would lie before the first byte
@settings(max_examples=250, deadline=None)
def test_a_damaged_archive_is_refused_or_unpacked_inside(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flips: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("z")
    data = bytearray(packed(folder / "a.zip", {"a/b.tif": b"x" * 50, "c.tif": b"y" * 50}).read_bytes())
    for at, value in flips:
        data[at % len(data)] = value
    (folder / "a.zip").write_bytes(data[: max(4, len(data) - cut)])
    try:
        unpack(folder / "a.zip", folder / "out", most_bytes=10_000)
    except (UnreadableSlide, TooLarge) as error:
        assert error.message
    written = [file for file in folder.rglob("*") if file.is_file() and file.name != "a.zip"]
    assert all(file.is_relative_to(folder / "out") for file in written)

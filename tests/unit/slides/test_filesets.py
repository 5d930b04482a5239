"""Slides of several files: which belong together, and that no list of files leads to somebody else's."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from scheduling.errors import UnreadableSlide
from scheduling.slides.reading.filesets import dicom_series, is_single, main_file, members
from scheduling.slides.reading.openslides import OpenSlideReader
from scheduling.slides.reading.reader import cached_reader, describe, fingerprint, open_slide
from tests.unit.slides.mirax import write_mirax


@pytest.fixture
def mirax(tmp_path: Path) -> Path:
    pixels = np.full((300, 420, 3), 220, np.uint8)
    pixels[:, :128] = (150, 60, 140)
    write_mirax(tmp_path / "case 1.mrxs", pixels)
    return tmp_path / "case 1.mrxs"


def dicom(path: Path, series: str, content: bytes = b"") -> Path:
    """As much of a DICOM file as says which series it belongs to."""
    uid = series.encode() + b"\0" * (len(series) % 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(128) + b"DICM" + b"\x20\x00\x0e\x00UI" + struct.pack("<H", len(uid)) + uid + content)
    return path


def test_a_mirax_slide_is_read_with_its_folder(mirax: Path) -> None:
    found = describe(mirax)
    assert (found.width, found.height, found.mpp, found.mpp_from, found.format) == (384, 256, 0.25, "openslide.mpp-x", "mirax")
    assert [file.name for file in members(mirax)] == ["Data0000.dat", "Index.dat", "Slidedat.ini"]
    assert found.size_bytes == sum(file.stat().st_size for file in (mirax, *members(mirax)))
    reader = open_slide(mirax)
    assert isinstance(reader, OpenSlideReader)
    window = reader.read(-10, -10, 200, 100)
    assert (window[:10] == 255).all()
    assert np.abs(window[15:, 20:100].astype(int) - (150, 60, 140)).max() < 5


@pytest.mark.parametrize("part", ["Data0000.dat", "Index.dat", "Slidedat.ini"])
def test_the_fingerprint_covers_every_file_of_a_set(mirax: Path, part: str) -> None:
    before, file = fingerprint(mirax), mirax.with_suffix("") / part
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert fingerprint(mirax) != before
    with pytest.raises(UnreadableSlide):
        cached_reader(mirax, before)


def test_a_set_with_a_file_missing_names_it(mirax: Path) -> None:
    (mirax.with_suffix("") / "Data0000.dat").rename(mirax.parent / "away")
    with pytest.raises(UnreadableSlide, match=r"Data0000\.dat.*is not there"):
        describe(mirax)
    (mirax.with_suffix("") / "Slidedat.ini").unlink()
    with pytest.raises(UnreadableSlide, match="folder case 1"):
        describe(mirax)


@pytest.mark.parametrize("name", ["../secret.dat", "/etc/passwd", "..", "a\\b.dat", "sub/x.dat"])
def test_a_set_that_names_files_elsewhere_is_refused(mirax: Path, name: str) -> None:
    (mirax.parent / "secret.dat").write_bytes(b"somebody else's")
    index = mirax.with_suffix("") / "Slidedat.ini"
    index.write_text(index.read_text("utf-8-sig").replace("Data0000.dat", name), "utf-8-sig")
    with pytest.raises(UnreadableSlide, match="outside its folder"):
        describe(mirax)
    vms = mirax.parent / "a.vms"
    vms.write_text(f"[Virtual Microscope Specimen]\nNoLayers=1\nImageFile={name}\nMapFile=b.jpg\n")
    with pytest.raises(UnreadableSlide, match="outside its folder"):
        describe(vms)


def test_a_list_of_files_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.vms").write_bytes(b"\xff\xfe\0no list at all\n[[[")
    with pytest.raises(UnreadableSlide, match="list of files"):
        members(tmp_path / "a.vms")


def test_dicom_files_of_one_series_belong_together(tmp_path: Path) -> None:
    first = [dicom(tmp_path / f"{index}.dcm", "1.2.840.1") for index in range(3)]
    other = dicom(tmp_path / "other.dcm", "1.2.840.22")
    elsewhere = dicom(tmp_path / "sub" / "0.dcm", "1.2.840.1")
    (tmp_path / "notes.txt").write_text("no DICOM")
    assert members(first[0]) == (first[1], first[2])
    assert members(other) == ()
    assert dicom_series([*first, other, elsewhere]) == [first[0], other, elsewhere]
    before = fingerprint(first[0])
    dicom(first[2], "1.2.840.1", b"more")
    assert fingerprint(first[0]) != before
    assert is_single(other)


def test_the_file_to_open_is_found_in_a_folder_of_one_slide(mirax: Path, tmp_path: Path) -> None:
    assert main_file(mirax.parent) == mirax
    one = tmp_path / "one" / "deep"
    dicom(one / "b.dcm", "1.2")
    assert main_file(dicom(one / "a.dcm", "1.2").parent.parent) == one / "a.dcm"
    tifffile.imwrite(tmp_path / "one" / "deep" / "x.tif", np.zeros((10, 10, 3), np.uint8), photometric="rgb")
    assert main_file(tmp_path / "one") == one / "a.dcm"
    dicom(one / "c.dcm", "1.3")
    with pytest.raises(UnreadableSlide, match="2 slides"):
        main_file(tmp_path / "one")
    (tmp_path / "none").mkdir()
    with pytest.raises(UnreadableSlide, match="no slide"):
        main_file(tmp_path / "none")

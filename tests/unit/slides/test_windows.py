"""Windows of any reader are the pixels of its levels, white outside; however and from how many threads they are read."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from scheduling.env import BASE_DIR
from scheduling.errors import UnreadableSlide
from scheduling.slides.reading.interface import RGB, SlideReader
from scheduling.slides.reading.openslides import OpenSlideReader
from scheduling.slides.reading.pictures import PictureReader
from scheduling.slides.reading.reader import ReaderCache, cached_reader, fingerprint, open_slide
from scheduling.slides.reading.tiff import TiffReader

WIDTH, HEIGHT = 331, 277
#: Halves, rounded up; and downsamples of 3.97 and 15.6.
SIZES = ((WIDTH, HEIGHT), (166, 139), (83, 70), (42, 35))
ODD = ((WIDTH, HEIGHT), (83, 70), (21, 18))
EVEN = ((320, 256), (160, 128), (40, 32))

Write = Callable[[Path, list[RGB]], None]


def levels_of(sizes: tuple[tuple[int, int], ...]) -> list[RGB]:
    random = np.random.default_rng(5)
    return [random.integers(0, 256, (height, width, 3), np.uint8) for width, height in sizes]


def tiled(path: Path, levels: list[RGB]) -> None:
    with tifffile.TiffWriter(path) as tiff:
        for index, level in enumerate(levels):
            tiff.write(level, tile=(64, 64), photometric="rgb", compression="zlib", subfiletype=int(index > 0), metadata=None)


def strips(path: Path, levels: list[RGB]) -> None:
    with tifffile.TiffWriter(path) as tiff:
        for index, level in enumerate(levels):
            tiff.write(level, rowsperstrip=19, photometric="rgb", compression="lzw", subfiletype=int(index > 0), metadata=None)


def ome(path: Path, levels: list[RGB]) -> None:
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for index, level in enumerate(levels):
            more: dict[str, int] = {"subfiletype": 1} if index else {"subifds": len(levels) - 1}
            tiff.write(level, tile=(48, 80), photometric="rgb", compression="zlib", metadata={"axes": "YXS"}, **more)


def uncompressed(path: Path, levels: list[RGB]) -> None:
    """Byte order and layout as ImageJ writes them: one strip for each page."""
    with tifffile.TiffWriter(path, byteorder=">") as tiff:
        for index, level in enumerate(levels):
            tiff.write(level, photometric="rgb", subfiletype=int(index > 0), metadata=None)


def planar(path: Path, levels: list[RGB]) -> None:
    with tifffile.TiffWriter(path) as tiff:
        for index, level in enumerate(levels):
            planes = np.moveaxis(level, 2, 0)
            tiff.write(planes, tile=(64, 64), photometric="rgb", planarconfig="separate", subfiletype=int(index > 0), metadata=None)


def png(path: Path, levels: list[RGB]) -> None:
    Image.fromarray(levels[0]).save(path)


CASES: dict[str, tuple[str, type[SlideReader], tuple[tuple[int, int], ...], Write]] = {
    "openslide": ("a.tif", OpenSlideReader, EVEN, tiled),
    "tiles": ("a.tif", TiffReader, SIZES, tiled),
    "tiles, odd downsamples": ("a.tif", TiffReader, ODD, tiled),
    "strips": ("a.tif", TiffReader, SIZES, strips),
    "odd downsamples": ("a.tif", TiffReader, ODD, strips),
    "ome": ("a.ome.tif", TiffReader, SIZES, ome),
    "ome, odd downsamples": ("a.ome.tif", TiffReader, ODD, ome),
    "uncompressed": ("a.tif", TiffReader, ODD, uncompressed),
    "planar": ("a.tif", TiffReader, SIZES, planar),
    "png": ("a.png", PictureReader, SIZES[:1], png),
}


@pytest.fixture(scope="module", params=CASES)
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[SlideReader, list[RGB]]:
    name, kind, sizes, write = CASES[request.param]
    path, levels = tmp_path_factory.mktemp("slide") / name, levels_of(sizes)
    write(path, levels)
    if kind is OpenSlideReader:  # of plain TIFFs the reader for scanners' formats gives the same
        return OpenSlideReader(path), levels
    reader = open_slide(path)
    assert type(reader) is kind
    return reader, levels


def window_of(pixels: RGB, left: int, top: int, width: int, height: int) -> RGB:
    """What a window of a level must be: the simplest way to say it."""
    out = np.full((height, width, 3), 255, np.uint8)
    for row in range(max(0, -top), min(height, pixels.shape[0] - top)):
        first, last = max(0, -left), min(width, pixels.shape[1] - left)
        if last > first:
            out[row, first:last] = pixels[top + row, left + first : left + last]
    return out


def test_levels_are_those_that_were_written(opened: tuple[SlideReader, list[RGB]]) -> None:
    reader, levels = opened
    assert [(level.width, level.height) for level in reader.levels] == [(p.shape[1], p.shape[0]) for p in levels]
    assert [level.downsample for level in reader.levels] == pytest.approx([reader.width / p.shape[1] for p in levels], rel=0.02)


@given(
    level=st.integers(0, 3), left=st.integers(-60, 380), top=st.integers(-60, 330), width=st.integers(1, 150), height=st.integers(1, 150)
)
@settings(max_examples=150, deadline=None)
def test_any_window_of_any_level_is_its_pixels_and_white_outside(
    opened: tuple[SlideReader, list[RGB]], level: int, left: int, top: int, width: int, height: int
) -> None:
    reader, levels = opened
    index = level % len(levels)
    downsample = reader.levels[index].downsample
    x, y = round(left * downsample), round(top * downsample)
    assert (reader.read(x, y, width, height, index) == window_of(levels[index], left, top, width, height)).all()


def test_openslide_gives_the_pixels_of_an_uneven_level_only_nearly(tmp_path: Path) -> None:
    """One reason why plain TIFFs are read by tifffile: it would blend neighbours, more the farther from the corner."""
    levels = [np.dstack([np.add.outer(np.arange(h), np.arange(w)) % 251] * 3).astype(np.uint8) for w, h in ((1201, 1000), (301, 250))]
    tiled(tmp_path / "a.tif", levels)
    nearly, exact = OpenSlideReader(tmp_path / "a.tif"), open_slide(tmp_path / "a.tif")
    assert isinstance(exact, TiffReader)
    x = round(100 * exact.levels[1].downsample)
    assert (exact.read(x, 0, 40, 40, 1) == levels[1][:40, 100:140]).all()
    assert np.abs(nearly.read(x, 0, 40, 40, 1).astype(int) - levels[1][:40, 100:140]).max() <= 32


def test_windows_from_many_threads_are_the_same(opened: tuple[SlideReader, list[RGB]]) -> None:
    reader, levels = opened

    def matches(index: int) -> bool:
        left, top = 37 * index % 250, 53 * index % 200
        return bool((reader.read(left, top, 90, 70) == window_of(levels[0], left, top, 90, 70)).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(matches, range(64)))


def test_the_smaller_levels_of_a_picture_are_its_area_means(tmp_path: Path) -> None:
    whole = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (1100, 2050, 3), np.uint8), (0, 0), 3)
    Image.fromarray(whole).save(tmp_path / "a.png")
    reader = open_slide(tmp_path / "a.png")
    assert [(level.width, level.height) for level in reader.levels] == [(2050, 1100), (513, 275)]
    expected = cv2.resize(whole, (513, 275), interpolation=cv2.INTER_AREA)
    assert (reader.read(-8, -8, 520, 280, 1)[2:277, 2:515] == expected).all()
    assert reader.thumbnail(300).shape == (161, 300, 3)


@pytest.mark.parametrize("name", CASES)
def test_a_process_that_is_forked_opens_slides_of_its_own(tmp_path: Path, name: str) -> None:
    file, _, sizes, write = CASES[name]
    write(tmp_path / file, levels_of(sizes))
    program = f"""
import os, sys
from pathlib import Path
from scheduling.slides.reading.reader import cached_reader, fingerprint
path = Path({str(tmp_path / file)!r})
content = fingerprint(path)
parent = cached_reader(path, content)
before = parent.read(10, 10, 50, 50)
child = os.fork()
if child == 0:
    own = cached_reader(path, content)
    os._exit(0 if own is not parent and (own.read(10, 10, 50, 50) == before).all() else 1)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert cached_reader(path, content) is parent and (parent.read(10, 10, 50, 50) == before).all()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=BASE_DIR, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_reader_that_failed_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    strips(path, levels_of(SIZES))
    content, cache = fingerprint(path), ReaderCache()
    first = cache.get(path, content)
    whole = path.read_bytes()
    path.write_bytes(whole[:50])
    with pytest.raises(UnreadableSlide, match=r"x=0, y=0, level 0"):
        first.read(0, 0, 300, 200)
    assert not first.is_usable
    path.write_bytes(whole)
    again = cache.get(path, content)
    assert again is not first
    assert (again.read(0, 0, 100, 90) == levels_of(SIZES)[0][:90, :100]).all()


def test_another_file_in_the_place_of_a_slide_is_not_taken_for_it(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    strips(path, levels_of(SIZES))
    content = fingerprint(path)
    strips(path, [255 - level for level in levels_of(SIZES)])
    with pytest.raises(UnreadableSlide, match="has changed"):
        cached_reader(path, content)


def test_the_cache_keeps_few_slides_and_few_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ReaderCache()
    paths = [tmp_path / f"{index}.png" for index in range(6)]
    for index, path in enumerate(paths):
        Image.fromarray(np.full((50, 60, 3), index, np.uint8)).save(path)
    readers = {path: cache.get(path, fingerprint(path)) for path in paths}
    kept = [path for path in paths[-cache.size :] if cache.get(path, fingerprint(path)) is readers[path]]
    assert kept == paths[-cache.size :]
    assert cache.get(paths[0], fingerprint(paths[0])) is not readers[paths[0]]
    monkeypatch.setattr(ReaderCache, "most_bytes", 2 * 50 * 60 * 3)
    newest = cache.get(paths[1], fingerprint(paths[1]))
    assert cache.get(paths[1], fingerprint(paths[1])) is newest
    assert cache.get(paths[5], fingerprint(paths[5])) is not readers[paths[5]]

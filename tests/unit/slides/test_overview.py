"""The whole slide at mask resolution, by blocks of a bounded size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scheduling.slides.reading.interface import RGB, Level, SlideReader
from scheduling.slides.reading.overview import Blocks, mask_downsample, read_overview
from scheduling.slides.reading.reader import open_slide
from scheduling.slides.synthetic.slide import write_sample


class Ramp(SlideReader):
    """A slide whose pixels say where they are; remembers the largest window it was asked for."""

    def __init__(self, width: int, height: int, steps: tuple[float, ...] = (1.0,)) -> None:
        self.width, self.height, self.mpp, self.format = width, height, 0.25, "ramp"
        self.levels = tuple(Level(width=round(width / s), height=round(height / s), downsample=s) for s in steps)
        self.largest = 0

    def _read(self, x: int, y: int, width: int, height: int, level: int) -> RGB:
        self.largest = max(self.largest, width * height)
        step = self.levels[level].downsample
        columns, rows = (x + np.arange(width) * step) / self.width, (y + np.arange(height) * step) / self.height
        return np.stack(
            [np.tile(columns * 250, (height, 1)), np.tile(rows[:, None] * 250, (1, width)), np.zeros((height, width))], axis=2
        ).astype(np.uint8)


@pytest.mark.parametrize("size", [(40, 30), (2000, 1500), (100_000, 80_000), (300_000, 20_000)])
@pytest.mark.parametrize("steps", [(1.0,), (1.0, 4.0, 16.0), (1.0, 4.0003, 16.01, 32.02)])
def test_blocks_cover_the_low_resolution_image_exactly_and_are_bounded(size: tuple[int, int], steps: tuple[float, ...]) -> None:
    reader = Ramp(*size, steps)
    blocks = Blocks.of(reader, 0.25)
    covered = np.zeros((blocks.height, blocks.width), np.uint8)
    for index in range(len(blocks)):
        left, top, width, height = blocks.place(index)
        covered[top : top + height, left : left + width] += 1
    assert (covered == 1).all()
    ratio = blocks.downsample / reader.levels[reader.best_level(blocks.downsample)].downsample
    assert (blocks.block_px * ratio) ** 2 < 12_000_000


def test_a_slide_of_one_level_is_read_in_small_windows() -> None:
    reader = Ramp(100_000, 80_000)
    blocks = Blocks.of(reader, 0.25)
    pixels = blocks.read(reader, len(blocks) // 2)
    assert pixels.shape == (blocks.block_px, blocks.block_px, 3)
    assert reader.largest <= 8_500_000


def test_the_overview_has_no_seams() -> None:
    reader = Ramp(9000, 7000, (1.0, 4.0, 16.0))
    overview = read_overview(reader, 0.25).astype(int)
    assert (np.diff(overview[:, :, 0], axis=1) >= 0).all()
    assert (np.diff(overview[:, :, 1], axis=0) >= 0).all()
    assert np.abs(np.diff(overview[:, :, 0], axis=1)).max() <= 2


def test_the_overview_is_the_coarse_level_where_the_file_has_one(tmp_path: Path) -> None:
    write_sample(tmp_path / "s.tif", width=2048, height=1024, seed=2)
    reader = open_slide(tmp_path / "s.tif")
    assert np.array_equal(read_overview(reader, 0.5), reader.read(0, 0, 128, 64, 2))


def test_the_mask_never_passes_25_megapixels() -> None:
    downsample = mask_downsample(200_000, 150_000, 0.25)
    assert (200_000 / downsample) * (150_000 / downsample) < 25_000_000

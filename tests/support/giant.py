"""A slide of 100,000 x 80,000 pixels, nearly all of it glass that takes no space in the file: islands of the synthetic tissue far apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import tifffile

from scheduling.slides.reading.interface import RGB
from scheduling.slides.reading.reader import open_slide
from scheduling.slides.synthetic.slide import MPP, write_sample

WIDTH, HEIGHT = 100_000, 80_000
TILE = 512
STEPS = (1, 4, 16)
#: Islands begin where a tile of every level does.
PLACE = TILE * STEPS[-1]


def write_giant(path: Path, places: Sequence[tuple[int, int]], *, width: int = 1536, height: int = 1024) -> None:
    """Write islands of `width` x `height` pixels at these columns and rows of `PLACE` pixels; each has its own tissue."""
    islands = {place: _island(path.with_name(f"island{seed}.tif"), width, height, seed) for seed, place in enumerate(places)}
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for step in STEPS:
            tiff.write(
                _tiles(islands, step),
                shape=(HEIGHT // step, WIDTH // step, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="rgb",
                compression="jpeg",
                subfiletype=int(step > 1),
                resolution=(1e4 / MPP / step, 1e4 / MPP / step),
                resolutionunit="CENTIMETER",
                maxworkers=1,
                metadata=None,
                software=False,
            )


def _island(path: Path, width: int, height: int, seed: int) -> RGB:
    write_sample(path, width=width, height=height, seed=seed)
    return open_slide(path).read(0, 0, width, height)


def _tiles(islands: Mapping[tuple[int, int], RGB], step: int) -> Iterator[RGB | None]:
    """The tiles of a level, row by row; None takes no space and is read as white."""
    filled = {place: tile for (column, row), island in islands.items() for place, tile in _of_island(island, column, row, step)}
    columns, rows = -(-WIDTH // step // TILE), -(-HEIGHT // step // TILE)
    return (filled.get((column, row)) for row in range(rows) for column in range(columns))


def _of_island(island: RGB, column: int, row: int, step: int) -> Iterator[tuple[tuple[int, int], RGB]]:
    height, width = (size // step for size in island.shape[:2])
    small = np.asarray(cv2.resize(island, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    padded = np.pad(small, ((0, -height % TILE), (0, -width % TILE), (0, 0)), constant_values=255)
    first = PLACE // step // TILE
    for top in range(0, padded.shape[0], TILE):
        for left in range(0, padded.shape[1], TILE):
            place = (column * first + left // TILE, row * first + top // TILE)
            yield place, np.ascontiguousarray(padded[top : top + TILE, left : left + TILE])

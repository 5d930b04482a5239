"""Overlay tiles: cells are drawn where they are, every cell is counted at every level, and tiles meet without a seam."""

from __future__ import annotations

import itertools
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.slides.reading.interface import Level
from scheduling.slides.reading.tiling import Box
from scheduling.viewer import density, overlay
from scheduling.viewer.density import Mosaic
from scheduling.viewer.overlay import (
    OverlayLevel,
    Shapes,
    coverage,
    draw_cells,
    draw_density,
    overlay_levels,
    pixel_edges,
    to_png,
    token_of,
)
from scheduling.viewer.vectortiles import Rings
from tests.support.cells import shapes
from tests.unit.slides.samples import filled

SIZE = 1300


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    shapes()


def scattered(count: int, classes: int = 1, size: int = SIZE) -> Shapes:
    """Cells on a grid, so that they do not overlap, some across the border of the slide."""
    rng, side = np.random.default_rng(3), 26
    places = rng.permutation([(x, y) for x in range(0, size, side) for y in range(0, size, side)])[:count]
    rings = [shapes()[int(rng.integers(60))][:-1] + place for place in places]
    return Shapes(outlines=Rings.of(rings), classes=rng.integers(classes, size=count).astype(np.uint8))


def level_of(downsample: float, *, draws_cells: bool, size: int = SIZE) -> OverlayLevel:
    pixels = int(-(-size // downsample))
    return OverlayLevel(width=pixels, height=pixels, downsample=downsample, draws_cells=draws_cells)


def whole(level: OverlayLevel, draw: Any) -> npt.NDArray[np.uint8]:
    """All tiles of a level, side by side."""
    return np.vstack([np.hstack([draw(column, row).rgba for column in range(level.columns)]) for row in range(level.rows)])


def test_pictures_at_full_resolution_are_the_cells_to_the_pixel() -> None:
    cells, level = scattered(900), level_of(1, draws_cells=True)
    image = whole(level, lambda column, row: draw_cells([cells], level, column, row))
    inside = np.zeros((SIZE + 40, SIZE + 40), np.uint8)
    for number in range(len(cells.outlines)):
        ring = cells.outlines.ring(number)
        (left, top), (right, bottom) = ring.min(axis=0) + 20, ring.max(axis=0) + 20
        closed = np.concatenate([ring, ring[:1]]) + 20 - (left, top)
        inside[top:bottom, left:right] |= filled(closed, right - left, bottom - top)
    beside, beyond = (cv2.dilate(inside, np.ones((side, side), np.uint8))[20:-20, 20:-20] for side in (3, 5))
    opacity, inside = image[..., 3], inside[20:-20, 20:-20]
    assert (opacity[inside > 0] > 0).all()
    # The outline, a pixel wide, lies half a pixel outside; its smoothed edge is hardly seen.
    assert opacity[beside == 0].max() < 60
    assert (opacity[beyond == 0] == 0).all()
    assert (image[image[..., 3] > 0][:, :3] == overlay.color_of(0)).all()


@given(st.lists(st.tuples(st.integers(0, 59), st.integers(0, 8), st.integers(0, 8)), max_size=8, unique_by=lambda made: made[1:]))
def test_coverage_is_one_inside_and_nothing_outside(made: list[tuple[int, int, int]]) -> None:
    rings = [shapes()[number] + (26 * x, 26 * y) for number, x, y in made]
    expected = np.zeros((240, 240), np.uint8)
    for ring in rings:
        moved = ring + 20
        canvas = filled(moved, 280, 280)[20:260, 20:260]
        expected |= canvas
    assert np.array_equal(coverage(Rings.of([ring[:-1] for ring in rings]), 240, 240), (expected > 0).astype(np.float32))


@given(st.sampled_from([2.0, 3.0, 4.0, 3.7]), st.integers(0, 59))
def test_coverage_adds_up_to_the_area_at_any_scale(downsample: float, number: int) -> None:
    ring = (shapes()[number][:-1] + 60) / downsample
    x, y = ring.T
    area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    placed = Rings(points=ring, offsets=np.array([0, len(ring)]))
    assert coverage(placed, 80, 80).sum() == pytest.approx(area, rel=1e-5)


def test_sloping_edges_cover_their_area() -> None:
    triangle = Rings(points=np.array([[10.5, 10.0], [40.0, 33.0], [5.0, 30.0]]), offsets=np.array([0, 3]))
    assert coverage(triangle, 50, 50).sum() == pytest.approx(358.25, rel=1e-5)


@pytest.mark.parametrize("downsample", [1.0, 2.0, 3.7])
@pytest.mark.parametrize("classes", [1, 3])
def test_drawn_tiles_meet_without_a_seam(downsample: float, classes: int) -> None:
    cells, level = scattered(1200, classes), level_of(downsample, draws_cells=True)
    tiled = whole(level, lambda column, row: draw_cells([cells], level, column, row, classes))
    assert_same_as_one_tile(tiled, level, lambda one: draw_cells([cells], one, 0, 0, classes))


@pytest.mark.parametrize("downsample", [1.5, 2.0, 2.4])
def test_density_tiles_meet_without_a_seam(downsample: float) -> None:
    mosaic, level = filled_mosaic(4000), level_of(downsample, draws_cells=False)
    tiled = whole(level, lambda column, row: draw_density(mosaic.window(*pixel_edges(level, column, row)), 4.0, 2))
    assert_same_as_one_tile(tiled, level, lambda one: draw_density(mosaic.window(*pixel_edges(one, 0, 0)), 4.0, 2))


def assert_same_as_one_tile(tiled: npt.NDArray[np.uint8], level: OverlayLevel, draw: Any) -> None:
    """As one tile as large as the level; the least step of opacity may differ, since sums are rounded in another order."""

    class OneTile(OverlayLevel):
        tile_px = 4096

    one = draw(OneTile(width=level.width, height=level.height, downsample=level.downsample, draws_cells=level.draws_cells)).rgba
    assert tiled.shape == one.shape
    assert np.abs(tiled.astype(int)[..., 3] - one.astype(int)[..., 3]).max() <= 4
    assert (tiled != one).any(axis=2).mean() < 0.001


def filled_mosaic(count: int, *, core_px: int = 256, side: int = 16, left: int = -77, classes: int = 2) -> Mosaic:
    """Cells all over the slide, in cores of a grid that does not begin at its corner."""
    rng, columns = np.random.default_rng(4), -(-(SIZE - left) // core_px)
    mosaic = Mosaic(left=left, top=left, core_px=core_px, columns=columns, rows=columns, side=side)
    x, y = rng.uniform(0, SIZE, (2, count))
    kinds = rng.integers(classes, size=count).astype(np.uint8)
    for core in range(columns**2):
        row, column = divmod(core, columns)
        box = Box(
            left=left + column * core_px, top=left + row * core_px, right=left + (column + 1) * core_px, bottom=left + (row + 1) * core_px
        )
        mine = (x >= box.left) & (x < box.right) & (y >= box.top) & (y < box.bottom)
        mosaic.put(core, density.counted(x[mine], y[mine], kinds[mine], box, side))
    return mosaic


@pytest.mark.parametrize("downsample", [1.0, 3.3, 7.0, 16.0, 40.0, 64.0, 500.0])
@pytest.mark.parametrize("offset", [0, 5])
def test_every_cell_is_counted_once_at_every_level(downsample: float, offset: int) -> None:
    mosaic, step = filled_mosaic(3000), 97
    total = np.zeros(2)
    begin = -100.0 - offset
    edges = np.arange(begin, SIZE + 300 + downsample, downsample)
    parts = [edges[at : at + step + 1] for at in range(0, len(edges) - 1, step)]
    for x, y in itertools.product(parts, parts):
        total += mosaic.window(x, y).astype(np.float64).sum(axis=(1, 2))
    assert mosaic.counts.sum() == 3000
    assert total == pytest.approx(mosaic.counts.sum(axis=(1, 2)), rel=1e-6)


def test_windows_along_the_bins_are_exact() -> None:
    mosaic = filled_mosaic(3000)
    edges = -77.0 + 16 * np.arange(0, 60)
    window = mosaic.window(edges, edges)
    assert np.array_equal(window, mosaic.counts[:, :59, :59].astype(np.float32))
    wide = mosaic.window(edges[::4], edges[::4])
    assert np.array_equal(wide, window[:, :56, :56].reshape(2, 14, 4, 14, 4).sum(axis=(2, 4)))


def test_a_density_of_nothing_is_nothing_and_grows_more_opaque_with_cells() -> None:
    counts = np.zeros((1, 100, 100), np.float32)
    assert not draw_density(counts, 8.0).rgba.any()
    opacities = []
    for cells in (1, 4, 40):
        counts[0, 50, 50] = cells
        opacities.append(int(draw_density(counts, 8.0).rgba[..., 3].max()))
    assert opacities == sorted(set(opacities))


def test_the_colour_of_a_density_is_that_of_the_most_frequent_class() -> None:
    counts = np.zeros((2, 100, 100), np.float32)
    counts[0, 30, 30], counts[1, 70, 70] = 1, 1
    image = draw_density(counts, 16.0, 2).rgba[:, :, :3].astype(int)
    for number, at in ((0, 30 - overlay.MARGIN_PX), (1, 70 - overlay.MARGIN_PX)):
        assert np.abs(image[at, at] - overlay.color_of(number)).max() < 60, number


def test_a_nucleus_is_darker_than_its_cell() -> None:
    cell, level = np.array([[100, 100], [160, 100], [160, 160], [100, 160]]), level_of(1, draws_cells=True)
    nucleus = np.array([[120, 120], [140, 120], [140, 140], [120, 140]])
    drawn = draw_cells([Shapes(outlines=Rings.of([cell]), classes=np.zeros(1, np.uint8), nuclei=Rings.of([nucleus]))], level, 0, 0).rgba
    assert 0 < drawn[110, 110, 3] < drawn[130, 130, 3]


def test_the_png_is_the_picture(tmp_path: Any) -> None:
    picture = draw_cells([scattered(600)], level_of(1, draws_cells=True), 1, 0)
    read = cv2.cvtColor(cv2.imdecode(np.frombuffer(to_png(picture), np.uint8), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA)
    assert np.array_equal(read, picture.rgba)
    assert to_png(picture) == to_png(draw_cells([scattered(600)], level_of(1, draws_cells=True), 1, 0))


def test_the_levels_are_the_slides_own_and_then_halves_until_one_tile_holds_it() -> None:
    own = [Level(width=5000, height=3000, downsample=1.0), Level(width=1250, height=750, downsample=4.0)]
    levels = overlay_levels(own, 0.5)
    assert [(level.width, level.height, level.downsample) for level in levels] == [
        (5000, 3000, 1),
        (1250, 750, 4),
        (625, 375, 8),
        (313, 188, 16),
    ]
    assert [level.draws_cells for level in levels] == [True, True, False, False]
    assert [level.size(level.columns - 1, level.rows - 1) for level in levels] == [(392, 440), (226, 238), (113, 375), (313, 188)]
    for place in [(10, 0), (0, 6), (-1, 0)]:
        with pytest.raises(LookupError):
            levels[0].size(*place)


def test_counts_read_back_and_those_of_another_core_or_damaged_ones_do_not() -> None:
    core = Box(left=512, top=-512, right=1024, bottom=0)
    counts = density.counted(np.array([512.0, 1023.9, 5000.0]), np.array([-512.0, -1.0, -3.0]), np.array([0, 2, 0], np.uint8), core, 32)
    assert counts.shape == (3, 32, 32)
    assert (counts[0, 0, 0], counts[2, 31, 31], counts[0, 31, 31]) == (1, 1, 1)
    data = density.to_bytes(counts, (512, -512))
    assert np.array_equal(density.from_bytes(data, (512, -512), 32), counts)
    for broken, corner, side in [(data, (0, 0), 32), (data, (512, -512), 16), (data[:-3], (512, -512), 32), (b"", (512, -512), 32)]:
        with pytest.raises(ValueError, match="counts"):
            density.from_bytes(broken, corner, side)


@given(st.sets(st.integers(0, 100_000), max_size=30), st.integers(0, 100_000))
def test_a_token_tells_sets_apart_and_not_their_order(tiles: set[int], more: int) -> None:
    assert token_of("v", sorted(tiles)) == token_of("v", sorted(tiles, reverse=True))
    if more not in tiles:
        assert token_of("v", sorted(tiles)) != token_of("v", sorted(tiles | {more}))
    assert token_of("v", sorted(tiles)) != token_of("w", sorted(tiles))

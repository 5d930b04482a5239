"""Pixels of the model's size, whole or not: chosen once, the same in every window, and as exact in the results as whole ones."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scheduling.slides.export.geojson import cell_features, result_entries
from scheduling.slides.export.tables import write_parquet
from scheduling.slides.nuclei.cell_table import NUCLEI
from scheduling.slides.nuclei.cells import Detected, cells_of_window, decode, encode, outlines_of
from scheduling.slides.nuclei.contours import split_pieces
from scheduling.slides.nuclei.seams import competing, conflicts
from scheduling.slides.reading.pictures import PictureReader
from scheduling.slides.reading.resampling import Taps, resampled
from scheduling.slides.reading.scale import Scale, from_text, model_scale, plain, to_text
from scheduling.slides.reading.tiling import Box, Grid, read_window
from scheduling.viewer.cell_rows import vector_tile
from scheduling.viewer.vectortiles import decode as read_vectors
from scheduling.viewer.vectortiles import encode as write_vectors

WIDTH, HEIGHT = 331, 257
ODD = [Fraction(50, 37), Fraction(5, 6), Fraction(20, 13), Fraction(9, 4), Fraction(347, 256), Fraction(5, 8)]
scales = st.sampled_from([*ODD, 1, 2, 3]) | st.fractions(Fraction(5, 8), 5, max_denominator=256).filter(lambda s: s.denominator > 1)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> PictureReader:
    """Noise with a black frame on two sides, as of a scanner that pads what it did not scan."""
    pixels = np.random.default_rng(5).integers(10, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    pixels[:20], pixels[:, :33] = 0, 3
    path = tmp_path_factory.mktemp("slide") / "noise.png"
    cv2.imwrite(str(path), pixels)
    return PictureReader(path)


@pytest.mark.parametrize(
    ("mpp", "expected"),
    [
        (0.5, 1),
        (0.25, 2),
        (0.2528, 2),
        (0.515, 1),
        (0.125, 4),
        (0.06, 8),
        (0.37, Fraction(50, 37)),
        (0.325, Fraction(20, 13)),
        (0.6, Fraction(5, 6)),
    ],
)
def test_pixels_are_whole_within_five_percent_and_else_a_fraction(mpp: float, expected: Scale) -> None:
    found = model_scale(mpp, 0.5)
    assert found == expected
    assert type(found) is type(expected)
    assert from_text(orjson.loads(orjson.dumps(to_text(found)))) == found
    assert plain(found) == pytest.approx(float(expected))


@given(st.floats(0.05, 0.8))
def test_pixels_are_of_the_models_size(mpp: float) -> None:
    found = model_scale(mpp, 0.5)
    assert abs(mpp * found / 0.5 - 1) <= (0.05 * (1 + 1e-9) if isinstance(found, int) else 0.004)


@settings(deadline=None)
@given(scale=scales, data=st.data())
def test_two_windows_hold_the_same_bytes_where_they_overlap(slide: PictureReader, scale: Scale, data: st.DataObject) -> None:
    last_x, last_y = math.ceil(WIDTH / scale) + 9, math.ceil(HEIGHT / scale) + 9
    places = st.tuples(st.integers(-9, last_x), st.integers(-9, last_y), st.integers(1, 60), st.integers(1, 60))
    boxes = [Box(left=x, top=y, right=x + w, bottom=y + h) for x, y, w, h in data.draw(st.tuples(places, places))]
    one, other = (read_window(slide, box, scale) for box in boxes)
    common = Box(
        left=max(box.left for box in boxes),
        top=max(box.top for box in boxes),
        right=min(box.right for box in boxes),
        bottom=min(box.bottom for box in boxes),
    )
    if common.width > 0 and common.height > 0:
        assert np.array_equal(_cut(one, boxes[0], common), _cut(other, boxes[1], common))


@pytest.mark.parametrize("scale", ODD)
def test_every_window_of_two_grids_is_cut_from_one_image(slide: PictureReader, scale: Fraction) -> None:
    grids = [Grid.for_slide(WIDTH, HEIGHT, scale, 64, 24, offset) for offset in ((0, 0), (16, 40))]
    whole = Box(left=-128, top=-128, right=grids[0].width + 128, bottom=grids[0].height + 128)
    image = read_window(slide, whole, scale)
    for grid in grids:
        for index in range(len(grid)):
            window = grid.window(index)
            assert np.array_equal(read_window(slide, window, scale), _cut(image, whole, window))
    assert (image[: 128 - 2] == 255).all()
    assert (image[-100:] == 255).all()
    # The black frame is white too; what it touches is mixed with white, never with black.
    assert image.min() >= 9


def _cut(pixels: npt.NDArray[np.uint8], box: Box, part: Box) -> npt.NDArray[np.uint8]:
    return pixels[part.top - box.top : part.bottom - box.top, part.left - box.left : part.right - box.left]


@settings(deadline=None)
@given(scale=scales.filter(lambda scale: scale.denominator > 1), begin=st.integers(-500, 2000), count=st.integers(1, 40))
def test_weights_are_the_area_or_the_line_and_add_up(scale: Fraction, begin: int, count: int) -> None:
    taps = Taps.of(begin, begin + count, scale)
    assert (taps.weights >= 0).all()
    assert (taps.weights.sum(axis=1) == taps.total).all()
    for number in (0, count - 1):
        low, high = (begin + number) * scale, (begin + number + 1) * scale
        for tap, weight in enumerate(taps.weights[number].tolist()):
            pixel = int(taps.first[number]) + tap
            if scale > 1:
                expected = max(Fraction(0), min(pixel + 1, high) - max(pixel, low)) / scale
            else:
                expected = 1 - abs(pixel + Fraction(1, 2) - (low + high) / 2)
            assert Fraction(weight, taps.total) == expected


@pytest.mark.parametrize("scale", ODD)
def test_what_is_flat_stays_so_and_a_ramp_stays_a_ramp(scale: Fraction) -> None:
    columns, rows = Taps.of(3, 60, scale), Taps.of(7, 40, scale)
    flat = np.full((rows.end - rows.begin, columns.end - columns.begin, 3), 201, np.uint8)
    assert (resampled(flat, columns, rows) == 201).all()
    ramp = np.broadcast_to(np.arange(flat.shape[1], dtype=np.uint8)[None, :, None], flat.shape)
    centres = [float((x + Fraction(1, 2)) * scale) - 0.5 - columns.begin for x in range(3, 60)]
    # A box of any width over a ramp gives its centre, but for pixels being steps: less than half a level, and the rounding.
    assert np.abs(resampled(ramp, columns, rows)[0, :, 0] - centres).max() <= 1.0


def cells_at(scale: Scale, *, seed: int = 0, left: int = 0) -> tuple[pa.Table, npt.NDArray[np.int32], Grid]:
    """Nuclei of 6 to 25 pixels in a window, their table, and the grid of one tile."""
    rng, labels = np.random.default_rng(seed), np.zeros((256, 256), np.int32)
    for number in range(40):
        axes = int(rng.integers(3, 13)), int(rng.integers(3, 10))
        center = 20 + 36 * (number % 7), 20 + 36 * (number // 7)
        cv2.ellipse(labels, center, axes, float(rng.uniform(0, 180)), 0, 360, number + 1, -1)
    labels, count = split_pieces(labels)
    grid = Grid(width=left + 256, height=256, core_px=256, halo_px=0, offset_x=(-left) % 256)
    zeros = np.zeros(labels.shape, np.float32)
    tile = grid.columns - 1
    table = cells_of_window(Detected(nuclei=labels, count=count, stained=(zeros, zeros)), grid, tile, downsample=scale, mpp=0.37)
    return table, labels, grid


def rings_px(cells: pa.Table) -> list[shapely.Polygon]:
    found = outlines_of(cells)
    return [shapely.Polygon(found.ring(row) / 10**found.decimals) for row in range(len(found))]


@pytest.mark.parametrize("scale", [*ODD, 1, 2])
@pytest.mark.parametrize("left", [0, 150_016])
def test_outlines_have_the_pixels_area_and_centroid(scale: Scale, left: int) -> None:
    cells, labels, _ = cells_at(scale, left=left)
    assert len(cells) == 40 == labels.max()
    areas_px = np.asarray(cells["area_um2"]) / 0.37**2
    assert np.allclose(areas_px, np.bincount(labels.ravel())[1:] * float(scale) ** 2, rtol=1e-4)
    for row, polygon in enumerate(rings_px(cells)):
        assert polygon.is_valid
        assert polygon.area == pytest.approx(areas_px[row], rel=0.01)
        assert abs(polygon.centroid.x - cells["centroid_x_px"][row].as_py()) < 0.25
        assert abs(polygon.centroid.y - cells["centroid_y_px"][row].as_py()) < 0.25


@pytest.mark.parametrize("scale", ODD)
def test_every_format_gives_the_same_places(scale: Fraction, tmp_path: Path) -> None:
    cells = decode(encode(cells_at(scale)[0]))
    expected = [shapely.get_coordinates(polygon) for polygon in rings_px(cells)]
    assert cells.schema.equals(NUCLEI.schema_at(scale))
    entries = orjson.loads(b"[" + result_entries(cells, 1) + b"]")
    features = orjson.loads(b"[" + cell_features(cells, "fingerprint") + b"]")
    with (tmp_path / "cells.parquet").open("wb") as sink:
        write_parquet(sink, [cells], NUCLEI)
    geometries = shapely.from_wkb(pyarrow.parquet.read_table(tmp_path / "cells.parquet")["geometry"].to_pylist())
    for row, ring in enumerate(expected):
        assert np.array_equal(features[row]["geometry"]["coordinates"][0], ring)
        assert np.array_equal(entries[row]["polygon"], ring[:-1])
        assert np.array_equal(shapely.get_coordinates(geometries[row]), ring)
    assert len({feature["id"] for feature in features}) == len(cells)


@pytest.mark.parametrize("scale", ODD)
def test_vector_tiles_hold_corners_of_model_pixels_in_as_few_bytes_as_whole_ones(scale: Fraction) -> None:
    sizes = {}
    for step in (scale, 1):
        cells = cells_at(step)[0]
        core = Box(left=0, top=0, right=round(256 * step), bottom=round(256 * step))
        data = write_vectors(vector_tile(cells, np.arange(len(cells)), 0, core, step))
        sizes[step], read = len(data), read_vectors(data)
        for row, polygon in enumerate(rings_px(cells)):
            assert np.abs(read.outlines.ring(row) - shapely.get_coordinates(polygon)[:-1]).max() <= 0.0051
    assert sizes[scale] == sizes[1]


def test_views_of_one_cell_are_rivals_at_any_scale() -> None:
    cells = cells_at(Fraction(50, 37))[0]
    near = cells.set_column(0, "depth_px", pa.array(np.zeros(len(cells))))
    ours, theirs = competing(near, 0), competing(near, 1)
    assert [(one.row, other.row) for one, other in conflicts(ours, theirs)] == [(row, row) for row in range(len(cells))]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1)), min_size=2, max_size=6))
@example([(-5, 100), (-100, 7), (2147483647, -2147483648), (0, 10), (50, -99)])
def test_hundredths_are_written_as_numbers(ring: list[tuple[int, int]]) -> None:
    numbers = pa.array(np.array(ring, np.int32).reshape(-1)).view(pa.decimal32(9, 2))
    polygon = pa.ListArray.from_arrays(pa.array([0, len(numbers)], pa.int32()), numbers)
    written = orjson.loads(result_entries(pa.table({"polygon": polygon}), 1))
    assert written["polygon"] == [[x / 100, y / 100] for x, y in ring[:-1]]

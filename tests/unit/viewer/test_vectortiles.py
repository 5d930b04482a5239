"""Vector tiles give back what was put in, to the pixel, in few bytes, to Python and to the JavaScript of the documentation."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.jobtypes.shown import ShownTiles, core_boxes
from scheduling.models import Job
from scheduling.selectors.overlays import Overlay, _level_body
from scheduling.slides.nuclei.seams import settled_rows
from scheduling.slides.reading.interface import Level
from scheduling.slides.reading.scale import Scale
from scheduling.slides.reading.tiling import Box
from scheduling.tilestore.tilefiles import TileFolder
from scheduling.viewer.cell_rows import open_rings, vector_tile
from scheduling.viewer.overlay import OverlayLevel, overlay_levels, token_of
from scheduling.viewer.varints import from_varints, to_varints, unzigzag, zigzag
from scheduling.viewer.vectortiles import Rings, VectorTile, decode, encode
from tests.support.cells import core_box, made_cells, made_layout, shapes, table_of
from tests.support.waiting import PATIENCE_S

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "vector-tiles.md"

corners = st.tuples(st.integers(-(2**20), 2**20), st.integers(-(2**20), 2**20))
#: Any vertices at all, staircases along pixel edges, and none.
free = st.lists(st.tuples(st.integers(-500, 2**18), st.integers(-500, 2**18)), min_size=3, max_size=40)
stairs = st.tuples(corners, st.sampled_from(range(60))).map(lambda made: (shapes()[made[1]][:-1] + made[0]).tolist())


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    """The tracer is compiled when it is first used, which hypothesis would take for its own time."""
    shapes()


def tile_of(outlines: list[Any], nuclei: list[Any] | None = None, **fields: Any) -> VectorTile:
    count = len(outlines)
    base: dict[str, Any] = {
        "tile": 7,
        "core": Box(left=-512, top=1024, right=512, bottom=2048),
        "scale": 1,
        "rows": np.arange(count),
        "classes": np.arange(count, dtype=np.uint8) % 5,
        "areas_um2": np.arange(count, dtype=np.float32) * 1.5,
        "outlines": Rings.of(outlines),
        "nuclei": None if nuclei is None else Rings.of(nuclei),
    }
    return VectorTile(**{**base, **fields})


def assert_same(left: VectorTile, right: VectorTile) -> None:
    assert (left.tile, left.core) == (right.tile, right.core)
    for name in ("rows", "classes", "areas_um2"):
        assert np.array_equal(getattr(left, name), getattr(right, name)), name
    assert (left.nuclei is None) == (right.nuclei is None)
    for mine, other in ((left.outlines, right.outlines), (left.nuclei, right.nuclei)):
        if mine is not None and other is not None:
            assert np.array_equal(mine.points, other.points)
            assert np.array_equal(mine.offsets, other.offsets)


@given(st.lists(st.integers(0, 2**35 - 1)))
def test_any_values_read_back_from_varints(values: list[int]) -> None:
    assert from_varints(to_varints(np.array(values, np.int64))).tolist() == values


@given(st.lists(st.integers(-(2**34), 2**34 - 1)))
def test_any_signed_values_read_back_from_zigzag(values: list[int]) -> None:
    numbers = np.array(values, np.int64)
    assert unzigzag(zigzag(numbers)).tolist() == values
    assert (zigzag(numbers) >= 0).all()


@pytest.mark.parametrize("value", [-1, 2**35])
def test_a_value_that_does_not_fit_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match="varint"):
        to_varints(np.array([value]))


@given(st.lists(free | stairs | st.just([]), max_size=12), st.booleans())
def test_any_outlines_read_back_exactly(outlines: list[Any], with_nuclei: bool) -> None:
    tile = tile_of(outlines, outlines[::-1] if with_nuclei else None)
    assert_same(decode(encode(tile)), tile)


@given(st.lists(stairs, min_size=1, max_size=20), st.sampled_from([1, 2, 3, 4]))
def test_outlines_along_the_edges_of_larger_pixels_read_back_exactly_in_less(outlines: list[Any], scale: int) -> None:
    larger = [(np.array(ring) * scale).tolist() for ring in outlines]
    core = Box(left=-512 * scale, top=0, right=512 * scale, bottom=1024 * scale)
    tile = tile_of(larger, core=core, scale=scale)
    assert_same(decode(encode(tile)), tile)
    assert len(encode(tile)) == len(encode(tile_of(outlines, core=Box(left=-512, top=0, right=512, bottom=1024))))


@given(st.lists(st.integers(1, 300), max_size=10))
def test_rows_that_are_left_out_keep_the_numbers_of_the_others(steps: list[int]) -> None:
    rows = np.cumsum([0, *steps])
    tile = tile_of([shapes()[0][:-1]] * len(rows), rows=rows)
    assert decode(encode(tile)).rows.tolist() == rows.tolist()


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d + b"\0", lambda d: b"X" + d[1:], lambda d: d[:20], lambda d: b""])
def test_a_damaged_tile_is_refused(damage: Any) -> None:
    with pytest.raises(ValueError, match=r"vector tile|varint"):
        decode(damage(encode(tile_of([shapes()[0][:-1]] * 3))))


def test_a_cell_takes_at_most_sixty_bytes() -> None:
    layout = made_layout(tiles=4, core_px=1024)
    cells = made_cells(layout, 3, 1000)
    tile = vector_tile(cells, settled_rows(cells), 3, core_box(layout, 3), 1)
    assert tile.outlines.sizes.mean() > 25
    assert len(encode(tile)) / 1000 < 60


def test_only_rows_not_deeper_than_the_border_are_shown_and_nuclei_may_be_missing() -> None:
    layout = made_layout(tiles=4)
    rings = [shapes()[number] + 100 for number in range(3)]
    nuclei = [(ring // 2).reshape(-1).tolist() for ring in rings[:2]]
    cells = table_of(rings, np.full((3, 2), 100.5), depth_px=[1.0, -0.5, 0.0], nucleus_polygon=[nuclei[0], nuclei[1], None])
    tile = decode(encode(vector_tile(cells, settled_rows(cells), 0, core_box(layout, 0), 1)))
    assert tile.rows.tolist() == [0, 2]
    assert tile.nuclei is not None
    assert np.array_equal(tile.nuclei.ring(0), np.array(nuclei[0]).reshape(-1, 2)[:-1])
    assert len(tile.nuclei.ring(1)) == 0
    assert np.array_equal(tile.outlines.ring(1), rings[2][:-1])


def test_a_tile_without_cells_is_a_header() -> None:
    layout = made_layout(tiles=1)
    cells = made_cells(layout, 0, 0)
    assert len(open_rings(cells, "polygon")) == 0
    assert len(encode(vector_tile(cells, settled_rows(cells), 0, core_box(layout, 0), 1))) == 44


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
@pytest.mark.parametrize("with_nuclei", [False, True])
@pytest.mark.parametrize("kind", ["along pixel edges", "free", "fraction"])
def test_the_javascript_of_the_documentation_reads_the_same(tmp_path: Path, kind: str, with_nuclei: bool) -> None:
    rings = [shapes()[n][:-1] * 2 + [2 * n - 700, 2000] for n in range(30)]
    if kind == "free":
        rings.append(np.array([[-7, 3], [2**20, 5], [11, 2**19]]))
    nuclei = [ring + 1 if n % 3 else [] for n, ring in enumerate(rings)]
    scale: Scale = 2
    if kind == "fraction":
        scale, rings, nuclei = Fraction(50, 37), *([np.asarray(ring) * 50 / 37 for ring in several] for several in (rings, nuclei))
    tile = tile_of(rings, nuclei if with_nuclei else None, scale=scale, rows=np.arange(len(rings)) * 3)
    (tmp_path / "tile.bin").write_bytes(encode(tile))
    (tmp_path / "read.mjs").write_text(javascript() + PRINT)
    node = subprocess.run(["node", "read.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    read = json.loads(node.stdout)
    outlines = [np.array(cell["outline"]).reshape(-1, 2) for cell in read["cells"]]
    assert [cell["row"] for cell in read["cells"]] == tile.rows.tolist()
    assert [cell["class"] for cell in read["cells"]] == tile.classes.tolist()
    assert [cell["area"] for cell in read["cells"]] == tile.areas_um2.tolist()
    assert all(np.array_equal(mine, ring) for mine, ring in zip(outlines, rings, strict=True))
    if with_nuclei:
        assert all(np.array_equal(cell["nucleus"], np.ravel(nucleus)) for cell, nucleus in zip(read["cells"], nuclei, strict=True))
    assert read["core"] == [-512, 1024, 512, 2048]
    assert read["token"] == token_of_python()


PRINT = """
import { readFileSync } from "node:fs";
const file = readFileSync("tile.bin");
const tile = readCells(file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength));
const list = (from, to) => Array.from(tile.points.subarray(2 * from, 2 * to));
const cells = Array.from({ length: tile.count }, (_, i) => {
  const ring = i * tile.ringsEach;
  return {
    row: tile.rows[i], class: tile.classes[i], area: tile.areas[i], outline: list(tile.offsets[ring], tile.offsets[ring + 1]),
    nucleus: tile.ringsEach > 1 ? list(tile.offsets[ring + 1], tile.offsets[ring + 2]) : null,
  };
});
console.log(JSON.stringify({ core: tile.core, cells, token: tokenOf("v", [0, 5, 999, 1000, 123456]) }));
"""


def javascript() -> str:
    """Every block of JavaScript in the document."""
    return "\n".join(re.findall(r"```js\n(.*?)```", DOCUMENT.read_text(), re.DOTALL))


def token_of_python() -> str:
    return token_of("v", [0, 5, 999, 1000, 123456])


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
@pytest.mark.parametrize("downsample", [2, Fraction(50, 37), Fraction(5, 6), Fraction(347, 256)])
def test_the_javascript_of_the_documentation_finds_the_tiles_that_the_server_draws(tmp_path: Path, downsample: Scale) -> None:
    layout = made_layout(tiles=36, core_px=256, downsample=downsample, offset=(40, 8))
    side = math.ceil(layout.grid.width * downsample)
    levels = overlay_levels([Level(width=side // step, height=side // step, downsample=float(step)) for step in (1, 4)], 0.5)
    seen = Overlay(job=Job(), shown=ShownTiles(tiles=TileFolder(tmp_path), layout=layout, mpp=0.5), levels=levels, boxes=core_boxes(layout))
    places = [(n, c, r) for n, level in enumerate(levels) for c in range(level.columns) for r in range(level.rows)]
    manifest = {
        "core_px": seen.core_px,
        "left": layout.full_px(-40),
        "top": layout.full_px(-8),
        "columns": layout.grid.columns,
        "cores": list(layout.cores),
        "overlay": {"tile_px": OverlayLevel.tile_px, "levels": [_level_body(seen, level) for level in levels]},
    }
    asked = f"const m = {json.dumps(manifest)};\nconsole.log(JSON.stringify({json.dumps(places)}.map((p) => tilesUnder(m, ...p))));\n"
    (tmp_path / "under.mjs").write_text(javascript() + asked)
    node = subprocess.run(["node", "under.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    assert json.loads(node.stdout) == [seen.touching(levels[n], c, r).tolist() for n, c, r in places]

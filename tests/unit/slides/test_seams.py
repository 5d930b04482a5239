from __future__ import annotations

import random

import cv2
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.slides.nuclei.cells import Detected, cells_of_window, decode, encode
from scheduling.slides.nuclei.contours import split_pieces
from scheduling.slides.nuclei.seams import competing, conflicts, dropped, exceptions, from_json, guards, settled_rows, to_json
from scheduling.slides.reading.tiling import GUARD_PX, Grid

SIDE, CORE, HALO = 360, 120, 64
GRID = Grid(width=SIDE, height=SIDE, core_px=CORE, halo_px=HALO)

Disks = list[tuple[int, int, int]]


@st.composite
def apart(draw: st.DrawFn) -> Disks:
    """Disks of 3 to 15 px radius, none nearer than 8 px to another: one in each place of a loose net, moved a little."""
    places = draw(st.lists(st.integers(0, 80), min_size=1, max_size=40, unique=True))
    moves = st.integers(0, 2)
    return [(20 + place % 9 * 40 + draw(moves), 20 + place // 9 * 40 + draw(moves), draw(st.integers(3, 14))) for place in places]


def tile_of(disks: Disks, tile: int, jitter: random.Random | None = None) -> pa.Table:
    """What a tile emits when it sees each disk a little larger, smaller or elsewhere."""
    window = GRID.window(tile)
    canvas = np.zeros((window.height, window.width), np.uint8)
    for x, y, radius in disks:
        dx, dy, dr = (jitter.randint(-1, 1) for _ in range(3)) if jitter else (0, 0, 0)
        cv2.circle(canvas, (x + dx - window.left, y + dy - window.top), radius + dr, 255, -1)
    labels, count = split_pieces(canvas.astype(np.int32))
    density = canvas.astype(np.float32)
    return cells_of_window(Detected(nuclei=labels, count=count, stained=(density, density)), GRID, tile, downsample=1, mpp=0.5)


def merged(tables: dict[int, pa.Table], order: list[int]) -> list[tuple[float, float]]:
    """Centroids that are kept, by tile and row, when the tiles are compared in this order."""
    near = {tile: competing(table, tile) for tile, table in tables.items()}
    pairs = [pair for a in order for b in order if a != b for pair in conflicts(near[a], near[b])]
    found = from_json(to_json(exceptions(dropped(pairs), {tile: guards(rivals) for tile, rivals in near.items()})))
    kept = [tables[tile].take(settled_rows(tables[tile], found.get(tile, ()))) for tile in sorted(tables)]
    return [place for cells in kept for place in zip(cells["centroid_x_px"].to_pylist(), cells["centroid_y_px"].to_pylist(), strict=True)]


@settings(max_examples=40, deadline=None)
@given(disks=apart(), seed=st.integers(0, 999))
def test_views_that_differ_a_little_give_each_object_exactly_once(disks: Disks, seed: int) -> None:
    jitter = random.Random(seed)
    tables = {tile: tile_of(disks, tile, jitter) for tile in range(len(GRID))}
    found = merged(tables, list(tables))
    near = [sum(abs(x - u) < 5 and abs(y - v) < 5 for u, v in found) for x, y, _ in disks]
    assert near == [1] * len(disks)
    assert len(found) == len(disks)


@settings(max_examples=20, deadline=None)
@given(disks=apart(), seed=st.integers(0, 999))
def test_shuffled_and_repeated_tiles_give_the_same_objects(disks: Disks, seed: int) -> None:
    jitter = random.Random(seed)
    tables = {tile: tile_of(disks, tile, jitter) for tile in range(len(GRID))}
    order = list(tables)
    assert merged(tables, jitter.sample(order, len(order)) + order[:3]) == merged(tables, order)


@pytest.mark.parametrize("diameter_px", [10, 30, 60, 100])
def test_an_object_on_a_corner_of_four_cores_is_kept_once(diameter_px: int) -> None:
    disks = [(CORE, CORE, diameter_px // 2)]
    tables = {tile: tile_of(disks, tile) for tile in range(len(GRID))}
    assert sum(map(len, tables.values())) == 4
    assert merged(tables, list(tables)) == [(CORE + 0.5, CORE + 0.5)]


def test_only_objects_in_conflict_are_held() -> None:
    deep = [(x, y, 5) for x in range(30, 100, 20) for y in range(30, 100, 20)]
    tables = {tile: tile_of([*deep, (CORE, 60, 5)], tile) for tile in range(2)}
    assert len(tables[0]) == len(deep) + 1
    pairs = conflicts(competing(tables[0], 0), competing(tables[1], 1))
    assert [[rival.row for rival in pair] for pair in pairs] == [[int(np.argmin(tables[0]["depth_px"])), 0]]


def test_views_that_agree_leave_nothing_to_write_down() -> None:
    tables = {tile: tile_of([(CORE, CORE, 9), (CORE - 3, 40, 7), (60, CORE + 2, 7)], tile) for tile in range(len(GRID))}
    near = {tile: competing(table, tile) for tile, table in tables.items()}
    pairs = [pair for a in tables for b in tables if a < b for pair in conflicts(near[a], near[b])]
    guarded = {tile: guards(rivals) for tile, rivals in near.items()}
    assert any(guarded.values())
    assert exceptions(dropped(pairs), guarded) == {}


def test_what_only_a_neighbour_saw_is_an_exception() -> None:
    tables = {0: tile_of([(CORE + 2, 60, 7), (60, 60, 7)], 0), 1: tile_of([], 1)}
    found = exceptions({}, {tile: guards(competing(table, tile)) for tile, table in tables.items()})
    assert found == {0: guards(competing(tables[0], 0))}
    assert settled_rows(tables[0]).tolist() == [1 - found[0][0]]
    assert settled_rows(tables[0], found[0]).tolist() == [0, 1]


def test_depth_tells_how_far_a_centroid_is_from_the_edge_of_its_core() -> None:
    cells = tile_of([(CORE - 5, 60, 4), (CORE + GUARD_PX - 2, 30, 4), (60, 62, 4), (CORE + GUARD_PX + 1, 100, 4)], 0)
    depths = dict(zip(cells["centroid_y_px"].to_pylist(), cells["depth_px"].to_pylist(), strict=True))
    assert [row["depth_px"] for row in cells.to_pylist() if row["centroid_x_px"] == CORE - 4.5] == [4.5]
    assert depths[30.5] == -6.5
    assert sorted(depths.values()) == [-6.5, 4.5, 57.5]


def test_metadata_rides_in_the_head_of_a_tile_and_is_not_read_with_its_cells() -> None:
    cells = tile_of([(60, 60, 9)], 0)
    payload = encode(cells, {"density": b"1"})
    with pa.ipc.open_stream(payload) as reader:
        assert reader.schema.metadata == {b"density": b"1"}
    assert decode(payload).equals(cells, check_metadata=True)

"""What is shown of finished tiles, loose or packed, with counts gathered or not, whole or damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest

from scheduling.jobtypes.segment_cells import SegmentCells
from scheduling.jobtypes.shown import SETTLED, TILES_A_PART, ShownTiles
from scheduling.slides.nuclei.cells import encode
from scheduling.slides.nuclei.seams import to_json
from scheduling.slides.synthetic.slide import write_sample
from scheduling.tilestore.tilefiles import MissingTile, TileFolder
from scheduling.viewer.vectortiles import decode
from scheduling.worker.running import compute, survey
from tests.support.cells import made_cells, made_layout, made_tile, table_of
from tests.unit.jobtypes.driving import job_context, run_job

TILES, CELLS = 260, 20


@pytest.fixture
def shown(tmp_path: Path) -> ShownTiles:
    """All tiles but every tenth finished."""
    folder = tmp_path / "tiles" / "digest"
    folder.mkdir(parents=True)
    layout, tiles = made_layout(tiles=TILES, core_px=128), TileFolder(folder)
    for tile in range(TILES):
        if tile % 10:
            tiles.publish(tile, made_tile(layout, tile, CELLS + tile % 3))
    return ShownTiles(tiles=tiles, layout=layout, mpp=0.5)


def totals(shown: ShownTiles) -> dict[int, int]:
    return {tile: int(counts.sum()) for tile, counts in shown.counts(range(TILES))}


def complete(shown: ShownTiles) -> None:
    for tile in range(0, TILES, 10):
        shown.tiles.publish(tile, made_tile(shown.layout, tile, CELLS + tile % 3))


def test_counts_are_of_every_finished_tile_and_of_no_other(shown: ShownTiles) -> None:
    assert totals(shown) == {tile: CELLS + tile % 3 for tile in range(TILES) if tile % 10}


def test_counts_vectors_and_cells_are_the_same_loose_packed_and_gathered(shown: ShownTiles) -> None:
    complete(shown)
    loose = totals(shown), shown.vector(3), {tile: len(cells) for tile, cells in shown.cells([3, 255])}
    for step in shown.gathering():
        step()
    assert totals(shown) == loose[0]
    shown.tiles.pack(0, TILES)
    assert not shown.tiles.tile_path(3).exists()
    assert (totals(shown), shown.vector(3), {tile: len(cells) for tile, cells in shown.cells([3, 255])}) == loose
    for part in range(-(-TILES // TILES_A_PART)):
        (shown.tiles.path / f"density.{part:05d}").write_bytes(b"damaged")
    assert totals(shown) == loose[0]


def test_gathering_twice_gives_the_same_bytes(shown: ShownTiles) -> None:
    complete(shown)
    made = []
    for _ in range(2):
        for step in shown.gathering():
            step()
        made.append([(shown.tiles.path / f"density.{part:05d}").read_bytes() for part in range(2)])
        for part in range(2):
            (shown.tiles.path / f"density.{part:05d}").unlink()
    assert made[0] == made[1]


def test_a_damaged_tile_is_not_counted_once_its_cells_are_needed(shown: ShownTiles) -> None:
    path = shown.tiles.tile_path(5)
    path.write_bytes(path.read_bytes()[:40])
    shown.tiles.tile_path(6).unlink()
    shown.tiles.tile_path(6).mkdir()
    assert set(totals(shown)) == {tile for tile in range(TILES) if tile % 10} - {5, 6}
    assert [tile for tile, _ in shown.cells([4, 5, 6, 7])] == [4, 7]


def test_tiles_that_say_no_counts_are_counted_from_their_cells(shown: ShownTiles) -> None:
    shown.tiles.publish(0, encode(made_cells(shown.layout, 0, 31)))
    shown.tiles.publish(10, encode(made_cells(shown.layout, 10, 7), {"density": b"not counts"}))
    shown.tiles.publish(20, encode(made_cells(shown.layout, 20, 8), {"long": b"x" * 9000}))
    found = totals(shown)
    assert (found[0], found[10], found[20]) == (31, 7, 8)


def test_counts_behind_much_other_metadata_are_read_all_the_same(shown: ShownTiles) -> None:
    cells = made_cells(shown.layout, 30, 9)
    shown.tiles.publish(30, encode(cells, {"aaa": b"x" * 9000, **shown.metadata(cells, 30)}))
    assert totals(shown)[30] == 9


def test_candidates_for_neighbours_are_neither_drawn_nor_counted(shown: ShownTiles) -> None:
    cells = made_cells(shown.layout, 0, 3).set_column(0, "depth_px", [[1.0, -2.0, 0.0]])
    assert shown.rows(cells, 0).tolist() == [0, 2]
    rings = [np.array([[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]])] * 3
    table = table_of(rings, np.full((3, 2), 2.0), depth_px=[1.0, -2.0, 0.0])
    assert list(shown.metadata(table, 0)) == ["density"]
    assert int(next(iter([shown._counted(table.take([0, 2]), 0)])).sum()) == 2


def test_what_is_shown_follows_the_seams_once_they_are_settled(shown: ShownTiles) -> None:
    x, y = shown._corner(0)
    places = np.array([[x + 60.0, y + 60.0], [x + 120.0, y + 60.0], [x + 131.0, y + 60.0]])
    rings = [np.array([[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]) + place.astype(int) for place in places]
    table = table_of(rings, places, depth_px=[60.0, 8.0, -3.0])
    shown.tiles.publish(0, encode(table, shown.metadata(table, 0)))
    assert (totals(shown)[0], decode(shown.vector(0)).rows.tolist()) == (2, [0, 1])
    shown.tiles.publish_part(SETTLED, to_json({0: [0, 2]}))
    later = ShownTiles(tiles=shown.tiles, layout=shown.layout, mpp=shown.mpp)
    wanted, before = {**totals(shown), 0: 2}, counted_at(shown, 0)
    assert decode(later.vector(0)).rows.tolist() == [1, 2]
    assert totals(later) == wanted
    assert counted_at(later, 0) != before
    for step in later.gathering()[:1]:
        step()
    assert totals(later) == wanted
    assert counted_at(later, 0) != before


def counted_at(shown: ShownTiles, tile: int) -> bytes:
    return next(counts for _, counts in shown.counts([tile])).tobytes()


def test_a_vector_tile_holds_the_cells_of_its_tile(shown: ShownTiles) -> None:
    tile = decode(shown.vector(11))
    assert (tile.tile, len(tile.rows), tile.core.width) == (11, CELLS + 2, 128)
    with pytest.raises(MissingTile):
        shown.vector(10)


def test_what_is_shown_of_a_real_job_are_the_cells_of_its_results(tmp_path: Path) -> None:
    write_sample(tmp_path / "slide.tif", width=1200, height=900, seed=5)
    job_type = SegmentCells()
    context = job_context(tmp_path, tmp_path / "slide.tif", job_type, name="job", tile_px=512)
    plan = survey(job_type, context).plan
    for tile in range(plan.tiles_total):
        compute(job_type, context, [tile], batch=1, is_over=lambda: False)
    shown = ShownTiles(tiles=context.tiles, layout=job_type.layout(context), mpp=0.5)
    running = {tile: int(counts.sum()) for tile, counts in shown.counts(range(plan.tiles_total))}
    run_job(job_type, context)
    results = orjson.loads((context.results / "results.json").read_bytes())
    drawn = [ring for tile in range(plan.tiles_total) for ring in rings_of_vector(shown.vector(tile))]
    assert sorted(drawn) == sorted(entry["polygon"] for entry in results)
    assert {tile: int(counts.sum()) for tile, counts in shown.counts(range(plan.tiles_total))} == running
    assert sum(running.values()) == len(results) > 100


def rings_of_vector(data: bytes) -> list[list[list[int]]]:
    """The outlines of a vector tile."""
    outlines = decode(data).outlines
    return [outlines.ring(number).tolist() for number in range(len(outlines))]

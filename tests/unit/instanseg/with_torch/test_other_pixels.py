"""INSTANSEG_WSI on slides whose pixels are no whole part of the model's: seams as exact, and the same cells as at the model's size."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import orjson
import pyarrow.parquet
import pytest
import shapely
import tifffile

from scheduling.instanseg.store import ModelStore
from scheduling.jobtypes.base import JobContext
from scheduling.jobtypes.instanseg_wsi import InstansegWsi
from scheduling.jobtypes.shown import ShownTiles
from scheduling.slides.reading.reader import open_slide
from scheduling.slides.synthetic.slide import write_sample
from scheduling.viewer.vectortiles import decode
from tests.support.matching import f1_at
from tests.support.models import facts_of
from tests.support.standin import standin_bytes
from tests.unit.jobtypes.driving import artifacts_of, comparable, job_context, run_job

WIDTH, HEIGHT, CORE, MPP = 896, 704, 256, 0.5
#: Of slides that are read at fractions of their pixels: finer ones, and one that is coarser than the model.
ODD = (0.37, 0.325, 0.6)


class Shifted(InstansegWsi):
    """The same on a grid moved by whole strides."""

    grid_offset = (136, 72)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with a stand-in, and one image as scanners of several resolutions would give it."""
    folder = tmp_path_factory.mktemp("data")
    write_sample(folder / "sample.tif", width=WIDTH, height=HEIGHT, seed=11)
    image = open_slide(folder / "sample.tif").read(0, 0, WIDTH, HEIGHT)
    for mpp in (MPP, *ODD):
        size = round(WIDTH * MPP / mpp), round(HEIGHT * MPP / mpp)
        scanned = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if mpp < MPP else cv2.INTER_AREA)
        tifffile.imwrite(folder / f"{mpp}.tif", scanned, tile=(256, 256), photometric="rgb", compression="zlib")
    (folder / "model.pt").write_bytes(standin_bytes("cells"))
    ModelStore(folder).add(
        folder / "model.pt", facts_of("nuclei", "cells", file=standin_bytes("cells"), name="standin-cells", is_fast=True)
    )
    return folder


def made(data_dir: Path, job_type: InstansegWsi, mpp: float, order: Any = list) -> JobContext:
    name = f"{type(job_type).__name__} {mpp}"
    settled = job_type.settled({"model": "standin-cells", "tile_px": CORE}, data_dir)
    context = job_context(data_dir, data_dir / f"{mpp}.tif", job_type, name=name, mpp=mpp, **settled)
    run_job(job_type, context, order)
    return context


@pytest.fixture(scope="module")
def jobs(data_dir: Path) -> dict[float, JobContext]:
    return {mpp: made(data_dir, InstansegWsi(), mpp) for mpp in (MPP, *ODD)}


def summary_of(context: JobContext) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(artifacts_of(context)["summary.json"])
    return found


@pytest.mark.parametrize("mpp", ODD)
def test_a_shifted_grid_in_shuffled_order_gives_the_same_bytes(data_dir: Path, jobs: dict[float, JobContext], mpp: float) -> None:
    other = made(data_dir, Shifted(), mpp, lambda tiles: random.Random(3).sample(list(tiles), len(tiles)))
    assert Shifted().layout(other).cores != InstansegWsi().layout(jobs[mpp]).cores
    assert comparable(artifacts_of(other)) == comparable(artifacts_of(jobs[mpp]))


def polygons(context: JobContext, mpp: float) -> list[shapely.Polygon]:
    """In microns."""
    features = orjson.loads(artifacts_of(context)["cells.geojson"])["features"]
    return [shapely.Polygon(np.array(feature["geometry"]["coordinates"][0]) * mpp) for feature in features]


@pytest.mark.parametrize("mpp", ODD)
def test_the_cells_are_those_of_the_models_own_pixels(jobs: dict[float, JobContext], mpp: float) -> None:
    expected, found = polygons(jobs[MPP], MPP), polygons(jobs[mpp], mpp)
    assert len(expected) > 100
    assert len(found) == pytest.approx(len(expected), rel=0.03)
    assert f1_at(found, expected, 0.51) > 0.97


@pytest.mark.parametrize("mpp", ODD)
def test_the_outlines_are_as_large_as_what_was_measured(jobs: dict[float, JobContext], mpp: float) -> None:
    table = pyarrow.parquet.read_table(jobs[mpp].results / "cells.parquet")
    for column, area in (("geometry", "cell_area_um2"), ("nucleus_geometry", "area_um2")):
        areas_um2 = shapely.area(shapely.from_wkb(table[column].to_pylist())) * mpp**2
        expected = np.array(table[area].to_pylist(), np.float64)
        there = np.isfinite(expected)
        assert there.sum() > 100
        assert np.allclose(areas_um2[there], expected[there], rtol=0.01)


def test_the_summary_says_how_the_slide_was_read(jobs: dict[float, JobContext]) -> None:
    for mpp, pixels, downsample in ((0.37, "area mean", 50 / 37), (0.6, "linear interpolation", 5 / 6), (MPP, "area mean", 1)):
        summary = summary_of(jobs[mpp])
        assert summary["mpp"] == pytest.approx(0.5)
        assert summary["method"]["downsample"] == downsample
        assert summary["method"]["pixels"] == pixels
        assert summary["tiles"]["tile_px"] == pytest.approx(CORE * downsample, abs=0.01)
    assert not any("trained at" in warning for warning in summary_of(jobs[0.37])["warnings"])
    assert any("trained at 0.5" in warning for warning in summary_of(jobs[0.6])["warnings"])


def test_the_viewer_shows_the_same_places(jobs: dict[float, JobContext]) -> None:
    context, layout = jobs[0.37], InstansegWsi().layout(jobs[0.37])
    shown = ShownTiles(tiles=context.tiles, layout=layout, mpp=0.37)
    tiles = [decode(shown.vector(tile)) for tile in range(len(layout.cores))]
    places = np.array([tile.outlines.ring(row)[0] for tile in tiles for row in range(len(tile.outlines))])
    cells = orjson.loads(artifacts_of(context)["results.json"])
    expected = np.array([cell["polygon"][0] for cell in cells])
    assert np.abs(_sorted(places) - _sorted(expected)).max() < 0.0051
    assert sum(int(counts.sum()) for _, counts in shown.counts(range(len(layout.cores)))) == len(cells)


def _sorted(places: Any) -> Any:
    return places[np.lexsort(np.rint(places * 37 / 50).T)]

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import geopandas
import numpy as np
import orjson
import pyarrow.parquet
import pytest
import shapely
import tifffile

from scheduling.jobtypes.base import JobContext
from scheduling.jobtypes.layout import Geometry, Layout
from scheduling.jobtypes.masks import Mask
from scheduling.jobtypes.segmentation import Segmentation
from scheduling.jobtypes.shown import SETTLED
from scheduling.slides.nuclei.cells import Detected, decode
from scheduling.slides.nuclei.contours import split_pieces
from scheduling.slides.nuclei.seams import from_json, settled_rows
from scheduling.slides.nuclei.stain import EOSIN, HEMATOXYLIN, Stains
from scheduling.slides.reading.interface import RGB, SlideReader
from tests.unit.jobtypes.driving import artifacts_of, job_context, run_job

CORE = 256
SIDE = 4 * CORE


class Dark(Segmentation):
    """Objects are the connected dark pixels: each tile sees the same wherever it begins."""

    name, title, description, version = "DARK", "Dark", "Dark pixels.", "1"
    parameters = {"type": "object", "properties": {}, "additionalProperties": False}

    def geometry(self, context: JobContext, parameters: dict[str, Any]) -> Geometry:
        return Geometry(downsample=1, core_px=CORE, halo_px=136)

    def constants(self, context: JobContext, reader: SlideReader, mask: Mask, geometry: Geometry, parameters: dict[str, Any]) -> Any:
        return Stains(background=(245.0, 245.0, 245.0), hematoxylin=HEMATOXYLIN, eosin=EOSIN), {}

    def detect(
        self, context: JobContext, layout: Layout, parameters: dict[str, Any], windows: Iterable[tuple[int, RGB]]
    ) -> Iterator[tuple[int, Detected]]:
        for index, pixels in windows:
            labels, count = split_pieces((pixels[:, :, 0] < 120).astype(np.int32))
            density = (255 - pixels[:, :, 0]).astype(np.float32) / 255
            yield index, Detected(nuclei=labels, count=count, stained=(density, density))

    def described(self, layout: Layout, parameters: dict[str, Any]) -> dict[str, Any]:
        return {}


class Shifted(Dark):
    grid_offset = (131, 77)


def planted() -> list[tuple[int, int, int]]:
    """Nuclei of 5 to 60 µm on every edge and corner of the cores, 128 px apart, and what lies between them."""
    sizes = random.Random(3)
    return [(x, y, sizes.randint(5, 60)) for x in range(128, SIDE, 128) for y in range(128, SIDE, 128)]


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pink tissue with dark disks, 0.5 microns a pixel."""
    pixels = np.full((SIDE, SIDE, 3), (225, 150, 190), np.uint8)
    pixels[::7, ::5] = (215, 140, 185)
    for x, y, radius in planted():
        cv2.circle(pixels, (x, y), radius, (70, 40, 130), -1)
    path = tmp_path_factory.mktemp("slide") / "disks.tif"
    tifffile.imwrite(path, np.pad(pixels, ((128, 128), (128, 128), (0, 0)), constant_values=245), tile=(256, 256), photometric="rgb")
    return path


def ran(folder: Path, slide: Path, job_type: Segmentation, order: Any = list) -> JobContext:
    folder.mkdir(parents=True, exist_ok=True)
    context = job_context(folder, slide, job_type, name="job")
    run_job(job_type, context, order)
    return context


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory, slide: Path) -> JobContext:
    return ran(tmp_path_factory.mktemp("data"), slide, Dark())


def comparable(context: JobContext) -> dict[str, Any]:
    """All artifacts, the summary without what may differ between runs."""
    found: dict[str, Any] = artifacts_of(context)
    summary = orjson.loads(found.pop("summary.json"))
    assert summary.pop("run")
    return found | {"summary": summary}


def test_a_shifted_grid_in_shuffled_order_gives_the_same_bytes(tmp_path: Path, slide: Path, context: JobContext) -> None:
    other = ran(tmp_path, slide, Shifted(), lambda tiles: random.Random(5).sample(list(tiles), len(tiles)))
    assert Shifted().layout(other).cores != Dark().layout(context).cores
    assert comparable(other) == comparable(context)


def test_planted_nuclei_on_every_edge_and_corner_are_exported_exactly_once(context: JobContext) -> None:
    features = orjson.loads(artifacts_of(context)["cells.geojson"])["features"]
    shapes = [shapely.Polygon(feature["geometry"]["coordinates"][0]) for feature in features]
    found = sorted((round(shape.centroid.x - 0.5) - 128, round(shape.centroid.y - 0.5) - 128) for shape in shapes)
    assert found == sorted((x, y) for x, y, _ in planted())


def test_a_polygon_covers_what_its_pixels_cover_and_has_their_centroid(context: JobContext) -> None:
    table = pyarrow.parquet.read_table(BytesIO(artifacts_of(context)["cells.parquet"]))
    shapes = shapely.from_wkb(table["geometry"].to_pylist())
    assert np.allclose(shapely.area(shapes) * 0.25, table["area_um2"], rtol=0.01)
    centroids = shapely.centroid(shapes)
    for measured, place in ((table["centroid_x_px"], shapely.get_x(centroids)), (table["centroid_y_px"], shapely.get_y(centroids))):
        assert np.abs(np.asarray(measured) - place).max() < 0.25


def test_the_compressed_collection_is_one_member_without_time_and_holds_the_plain_one(context: JobContext) -> None:
    found = artifacts_of(context)
    packed = found["cells.geojson.gz"]
    assert gzip.decompress(packed) == found["cells.geojson"]
    member = zlib.decompressobj(31)
    member.decompress(packed)
    assert member.eof
    assert not member.unused_data
    assert packed[4:8] == bytes(4)


def test_the_mask_that_was_used_is_exported_with_its_outlines(context: JobContext) -> None:
    found = artifacts_of(context)
    assert found["mask.png"] == context.tiles.read_part("mask.png")
    features = orjson.loads(found["tissue.geojson"])["features"]
    assert {feature["properties"]["classification"]["name"] for feature in features} == {"Tissue"}


def test_the_published_seams_leave_of_the_tiles_what_the_artifacts_hold(context: JobContext) -> None:
    found = from_json(context.tiles.read_part(SETTLED))
    tables = [decode(context.tiles.read(tile)) for tile in range(len(Dark().layout(context).cores))]
    kept = [len(settled_rows(table, found.get(tile, ()))) for tile, table in enumerate(tables)]
    assert sum(kept) == len(planted()) < sum(map(len, tables))


def test_cells_are_measured_by_the_names_that_qupath_gives(context: JobContext) -> None:
    feature = orjson.loads(artifacts_of(context)["cells.geojson"])["features"][0]
    stains = [f"Nucleus: {stain} OD {figure}" for stain in ("Hematoxylin", "Eosin") for figure in ("mean", "sum", "std dev", "max", "min")]
    shape = ["Area µm^2", "Perimeter µm", "Circularity", "Solidity", "Max diameter µm", "Min diameter µm"]
    assert list(feature["properties"]["measurements"]) == [*(f"Nucleus: {name}" for name in shape), *stains]


def test_the_summary_gives_the_quartiles_of_the_areas(context: JobContext) -> None:
    found = artifacts_of(context)
    areas = pyarrow.parquet.read_table(BytesIO(found["cells.parquet"]))["area_um2"].to_numpy()
    statistics = orjson.loads(found["summary.json"])["nuclear_area_um2"]
    wanted = np.quantile(areas, [0, 0.25, 0.5, 0.75, 1], method="inverted_cdf").tolist()
    assert [statistics[name] for name in ("min", "quartile_1", "median", "quartile_3", "max")] == wanted


def test_geopandas_reads_the_parquet_file(context: JobContext) -> None:
    frame = geopandas.read_parquet(BytesIO(artifacts_of(context)["cells.parquet"]))
    assert len(frame) == len(planted())
    assert set(frame.geom_type) == {"Polygon"}

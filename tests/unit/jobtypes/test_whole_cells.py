"""Nuclei in whole cells, from tiles to artifacts: the same whatever the grid, and read by what researchers use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import geopandas
import numpy as np
import orjson
import pyarrow.csv
import pyarrow.parquet
import pytest
import shapely

from scheduling.jobtypes.base import JobContext
from scheduling.jobtypes.layout import Layout
from scheduling.jobtypes.segment_cells import SegmentCells
from scheduling.jobtypes.shown import ShownTiles
from scheduling.slides.nuclei.cell_table import CELLS
from scheduling.slides.nuclei.cells import Detected
from scheduling.slides.reading.interface import RGB
from scheduling.slides.synthetic.slide import write_sample
from scheduling.viewer.vectortiles import decode
from tests.support.qupath import PathObject, read_objects
from tests.unit.jobtypes.driving import artifacts_of, job_context, run_job
from tests.unit.jobtypes.test_cell_export import Dark
from tests.unit.jobtypes.test_cell_export import slide as disks

__all__ = ["disks"]

MPP, EXPANSION_UM = 0.5, 5.0


class Shifted(SegmentCells):
    """The same with its grid moved."""

    grid_offset = (201, 77)


class Hulled(Dark):
    """Every disk is a cell; those on even columns have a smaller nucleus inside, the others none."""

    def detect(
        self, context: JobContext, layout: Layout, parameters: dict[str, Any], windows: Iterable[tuple[int, RGB]]
    ) -> Iterator[tuple[int, Detected]]:
        for index, found in super().detect(context, layout, parameters, windows):
            left = layout.grid.window(layout.cores[index]).left
            columns = (np.arange(found.nuclei.shape[1]) + left + 64) // 128
            inner = cv2.erode((found.nuclei > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) * (columns % 2 == 0)
            yield index, replace(found, nuclei=np.where(inner > 0, found.nuclei, 0).astype(np.int32), cells=found.nuclei)


class HulledShifted(Hulled):
    grid_offset = (131, 77)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "sample.tif"
    write_sample(path, width=1100, height=900, seed=12)
    return path


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory, slide: Path) -> JobContext:
    context = job_context(tmp_path_factory.mktemp("data"), slide, SegmentCells(), name="job", tile_px=400, expansion_um=EXPANSION_UM)
    run_job(SegmentCells(), context)
    return context


@pytest.fixture(scope="module")
def objects(context: JobContext) -> list[PathObject]:
    return read_objects(artifacts_of(context)["cells.geojson"])


def without_summary(artifacts: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in artifacts.items() if name != "summary.json"}


@pytest.mark.parametrize(("job_type", "tile_px"), [(SegmentCells(), 611), (Shifted(), 300), (SegmentCells(), 2048)])
def test_another_grid_gives_the_same_cells_to_the_byte(
    tmp_path: Path, slide: Path, context: JobContext, job_type: SegmentCells, tile_px: int
) -> None:
    other = job_context(tmp_path, slide, job_type, name="job", tile_px=tile_px, expansion_um=EXPANSION_UM)
    run_job(job_type, other, lambda tiles: list(tiles)[::-1])
    assert without_summary(artifacts_of(other)) == without_summary(artifacts_of(context))


def test_growing_adds_cells_around_the_nuclei_that_are_found_without_it(tmp_path: Path, slide: Path, objects: list[PathObject]) -> None:
    plain = job_context(tmp_path, slide, SegmentCells(), name="job")
    run_job(SegmentCells(), plain)
    alone = read_objects(artifacts_of(plain)["cells.geojson"])
    assert {found.kind for found in alone} == {"detection"}
    assert {found.roi.wkb for found in alone} == {found.nucleus.wkb for found in objects if found.nucleus}
    assert not any(name.startswith(("Cell", "Cytoplasm")) for found in alone for name in found.measurements)


def test_qupath_reads_cells_with_their_nuclei_and_measurements(objects: list[PathObject]) -> None:
    assert len(objects) > 100
    assert {(found.kind, found.classification) for found in objects} == {("cell", "Cell")}
    shape = ("Area µm^2", "Perimeter µm", "Circularity", "Solidity", "Max diameter µm", "Min diameter µm")
    stains = [f"{stain} OD {figure}" for stain in ("Hematoxylin", "Eosin") for figure in ("mean", "sum", "std dev", "max", "min")]
    names = [f"{part}: {name}" for part in ("Nucleus", "Cell") for name in shape]
    names += [f"{part}: {name}" for part in ("Nucleus", "Cytoplasm") for name in stains]
    for found in objects:
        assert set(found.measurements) == {*names, "Nucleus/Cell area ratio"}
        assert found.nucleus is not None
        assert found.roi.covers(found.nucleus)
        areas = [found.measurements[f"{part}: Area µm^2"] for part in ("Nucleus", "Cell")]
        assert areas == pytest.approx([found.nucleus.area * MPP**2, found.roi.area * MPP**2])
        assert found.measurements["Nucleus/Cell area ratio"] == pytest.approx(areas[0] / areas[1], abs=1e-4)
        assert found.nucleus.buffer(EXPANSION_UM / MPP + 2).covers(found.roi)


def test_no_two_cells_overlap(objects: list[PathObject]) -> None:
    cells = np.array([found.roi for found in objects])
    one, other = shapely.STRtree(cells).query(cells)
    assert shapely.area(shapely.intersection(cells[one[one < other]], cells[other[one < other]])).max() == 0


def test_all_exports_hold_the_same_cells(context: JobContext, objects: list[PathObject]) -> None:
    found = artifacts_of(context)
    results, csv = orjson.loads(found["results.json"]), pyarrow.csv.read_csv(BytesIO(found["cells.csv"]))
    frame = geopandas.read_parquet(BytesIO(found["cells.parquet"]))
    assert [shapely.Polygon(cell["polygon"]).wkb for cell in results] == [one.roi.wkb for one in objects]
    assert csv.column_names == ["id", "class", *CELLS.measures]
    assert frame.active_geometry_name == "geometry"
    assert list(frame.geometry.to_wkb()) == [one.roi.wkb for one in objects]
    assert list(frame["nucleus_geometry"].to_wkb()) == [one.nucleus.wkb for one in objects if one.nucleus]
    assert csv["cell_area_um2"].to_pylist() == list(frame["cell_area_um2"])
    assert set(csv["class"].to_pylist()) == {"Cell"}


def test_the_summary_describes_nuclei_and_cells(context: JobContext, objects: list[PathObject]) -> None:
    summary = orjson.loads(artifacts_of(context)["summary.json"])
    assert summary["cells"] == summary["nuclei"] == len(objects)
    for figures, part in (("nuclear_area_um2", "Nucleus"), ("cell_area_um2", "Cell")):
        areas = [found.measurements[f"{part}: Area µm^2"] for found in objects]
        assert summary[figures]["total"] == pytest.approx(sum(areas))
        assert summary[figures]["max"] == max(areas)


def test_vector_tiles_show_cells_with_their_nuclei(context: JobContext, objects: list[PathObject]) -> None:
    layout = SegmentCells().layout(context)
    shown = ShownTiles(tiles=context.tiles, layout=layout, mpp=MPP)
    drawn = [decode(shown.vector(tile)) for tile in range(len(layout.cores))]
    outlines = {shapely.Polygon(tile.outlines.ring(row)).wkb for tile in drawn for row in range(len(tile.rows))}
    assert outlines == {found.roi.wkb for found in objects}
    assert all(tile.nuclei is not None and (tile.nuclei.sizes > 0).all() for tile in drawn)
    assert shown.class_names == ["Cell"]


def test_a_cell_without_a_nucleus_is_placed_by_itself_and_has_no_word_of_one(tmp_path: Path, disks: Path) -> None:
    made = []
    for job_type, folder in ((Hulled(), "one"), (HulledShifted(), "other")):
        (tmp_path / folder).mkdir()
        made.append(job_context(tmp_path / folder, disks, job_type, name="job"))
        run_job(job_type, made[-1])
    assert without_summary(artifacts_of(made[0])) == without_summary(artifacts_of(made[1]))
    found = artifacts_of(made[0])
    bare = [one for one in read_objects(found["cells.geojson"]) if one.nucleus is None]
    summary = orjson.loads(found["summary.json"])
    assert len(bare) == summary["cells"] - summary["nuclei"] > 10
    assert not any(name.startswith("Nucleus") for one in bare for name in one.measurements)
    assert all("Cytoplasm: Eosin OD mean" in one.measurements for one in bare)
    frame = geopandas.read_parquet(BytesIO(found["cells.parquet"]))
    is_bare = frame["area_um2"].isna()
    assert is_bare.sum() == frame["nucleus_geometry"].isna().sum() == len(bare)
    assert np.allclose(frame["centroid_x_px"][is_bare], frame.geometry.centroid.x[is_bare], atol=1e-3)
    assert pyarrow.csv.read_csv(BytesIO(found["cells.csv"]))["area_um2"].null_count == len(bare)

from __future__ import annotations

import random
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.csv
import pyarrow.parquet
import pytest
import shapely
import tifffile

import scheduling
from scheduling.jobtypes.base import InputRef, JobFailed
from scheduling.jobtypes.segment_cells import SegmentCells
from scheduling.jobtypes.tissue_mask import TissueMask
from scheduling.slides.nuclei.stain import HEMATOXYLIN
from scheduling.slides.reading.reader import open_slide
from scheduling.slides.synthetic.planting import Nuclei
from scheduling.slides.synthetic.slide import GroundTruth, write_sample
from tests.support.qupath import read_objects
from tests.unit.jobtypes.driving import artifacts_of, comparable, job_context, run_job
from tests.unit.slides.samples import agreement, round_nuclei

WIDTH, HEIGHT = 2000, 1500


class Shifted(SegmentCells):
    """The same with its grid moved."""

    grid_offset = (201, 77)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GroundTruth]:
    path = tmp_path_factory.mktemp("slide") / "sample.tif"
    return path, write_sample(path, width=WIDTH, height=HEIGHT, seed=11)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, slide: tuple[Path, GroundTruth]) -> dict[str, bytes]:
    context = job_context(tmp_path_factory.mktemp("data"), slide[0], SegmentCells(), name="job", tile_px=400)
    run_job(SegmentCells(), context)
    return artifacts_of(context)


def segmented(data_dir: Path, slide: Path, job_type: SegmentCells | None = None, **options: Any) -> dict[str, bytes]:
    """The artifacts of a run of its own."""
    order = options.pop("order", list)
    context = job_context(data_dir, slide, job_type or SegmentCells(), name="job", **options)
    run_job(job_type or SegmentCells(), context, order)
    return artifacts_of(context)


def rings(artifacts: dict[str, bytes]) -> list[np.ndarray]:
    """Closed rings of the features."""
    return [np.array(f["geometry"]["coordinates"][0]) for f in orjson.loads(artifacts["cells.geojson"])["features"]]


def shapes(artifacts: dict[str, bytes]) -> set[bytes]:
    return {ring.tobytes() for ring in rings(artifacts)}


def shuffled(tiles: Any) -> list[int]:
    return random.Random(4).sample(list(tiles), len(tiles))


def test_planted_nuclei_are_found_with_recall_and_precision(slide: tuple[Path, GroundTruth], exported: dict[str, bytes]) -> None:
    found = agreement(slide[1], rings(exported))
    assert found.recall >= 0.95
    assert found.precision >= 0.95


def test_the_order_of_tiles_and_repeated_steps_change_no_byte(
    tmp_path: Path, slide: tuple[Path, GroundTruth], exported: dict[str, bytes]
) -> None:
    context = job_context(tmp_path, slide[0], SegmentCells(), name="job", tile_px=400)
    run_job(SegmentCells(), context, shuffled)
    made = artifacts_of(context)
    for step in SegmentCells().finish(context):
        step()
        step()
    assert artifacts_of(context) == made
    assert comparable(made) == comparable(exported)


@pytest.mark.parametrize(("job_type", "tile_px"), [(SegmentCells(), 617), (Shifted(), 400)])
def test_another_grid_gives_the_same_artifacts_to_the_byte(
    tmp_path: Path, slide: tuple[Path, GroundTruth], exported: dict[str, bytes], job_type: SegmentCells, tile_px: int
) -> None:
    other = segmented(tmp_path, slide[0], job_type, tile_px=tile_px)
    assert {name: data for name, data in other.items() if name != "summary.json"} == {
        name: data for name, data in exported.items() if name != "summary.json"
    }


def test_nuclei_on_edges_and_corners_of_tiles_are_found_exactly_once(tmp_path: Path) -> None:
    places = [(float(x), float(y)) for x in range(400, 1200, 50) for y in range(500, 1000, 50)]
    truth = write_sample(tmp_path / "s.tif", width=WIDTH, height=HEIGHT, seed=11, nuclei=round_nuclei(places))
    artifacts = segmented(tmp_path, tmp_path / "s.tif", tile_px=300)
    found = rings(artifacts)
    tree = shapely.STRtree([shapely.Polygon(ring) for ring in found])
    on_edges = [place for place in places if place[0] % 300 == 0 or place[1] % 300 == 0]
    hits = [len(tree.query(shapely.Point(place), predicate="within")) for place in places]
    assert max(hits) == 1
    assert len(on_edges) > 20
    assert agreement(truth, found).recall > 0.9
    (tmp_path / "whole").mkdir()
    assert shapes(artifacts) == shapes(segmented(tmp_path / "whole", tmp_path / "s.tif", tile_px=2048))


def test_the_geojson_is_what_qupath_reads(exported: dict[str, bytes]) -> None:
    objects = read_objects(exported["cells.geojson"])
    assert len(objects) > 300
    assert {(found.kind, found.classification, found.nucleus) for found in objects} == {("detection", "Nucleus", None)}
    for found in objects:
        assert shapely.box(0, 0, WIDTH, HEIGHT).covers(found.roi)
        assert found.measurements["Nucleus: Area µm^2"] == pytest.approx(found.roi.area * 0.25)


def test_all_exports_hold_the_same_cells(exported: dict[str, bytes]) -> None:
    results = orjson.loads(exported["results.json"])
    csv = pyarrow.csv.read_csv(BytesIO(exported["cells.csv"]))
    parquet = pyarrow.parquet.read_table(BytesIO(exported["cells.parquet"]))
    assert [cell["id"] for cell in results] == csv["id"].to_pylist() == parquet["id"].to_pylist() == list(range(1, len(results) + 1))
    assert {cell["type"] for cell in results} == {"cell"}
    assert csv["area_um2"].to_pylist() == pytest.approx(parquet["area_um2"].to_pylist())
    outlines = shapely.from_wkb(parquet["geometry"].to_pylist())
    for cell, ring, outline, x, y in zip(
        results, rings(exported), outlines, csv["centroid_x_px"].to_pylist(), csv["centroid_y_px"].to_pylist(), strict=True
    ):
        assert cell["polygon"] == ring[:-1].tolist()
        assert outline.equals(shapely.Polygon(ring))
        assert (outline.centroid.x, outline.centroid.y) == pytest.approx((x, y), abs=0.01)
    summary = orjson.loads(exported["summary.json"])
    assert summary["cells"] == len(results)
    assert summary["nuclear_area_um2"]["total"] == pytest.approx(sum(csv["area_um2"].to_pylist()), rel=1e-6)
    assert summary["slide"]["fingerprint"]
    assert summary["parameters"]["tile_px"] == 400


def test_cells_are_sought_only_on_the_tissue_mask_before_it(
    tmp_path: Path, slide: tuple[Path, GroundTruth], exported: dict[str, bytes]
) -> None:
    mask = job_context(tmp_path, slide[0], TissueMask(), name="mask")
    run_job(TissueMask(), mask)
    inputs = (InputRef(job="mask", job_type="TISSUE_MASK", digest="d"),)
    assert shapes(segmented(tmp_path, slide[0], inputs=inputs, tile_px=400)) == shapes(exported)
    summary = orjson.loads((mask.results / "summary.json").read_bytes())
    assert summary["tissue_area_mm2"] == pytest.approx(orjson.loads(exported["summary.json"])["tissue_area_mm2"], rel=0.02)


def test_a_slide_without_tissue_fails_with_the_reason(tmp_path: Path) -> None:
    blank = Nuclei.of_rows([])
    write_sample(tmp_path / "s.tif", width=64, height=48, seed=1, nuclei=blank)
    with pytest.raises(JobFailed, match="No tissue"):
        segmented(tmp_path, tmp_path / "s.tif")


def test_a_coarse_slide_fails_with_the_reason(tmp_path: Path, slide: tuple[Path, GroundTruth]) -> None:
    with pytest.raises(JobFailed, match="microns per pixel"):
        segmented(tmp_path, slide[0], mpp=2.0)


def test_a_damaged_mask_fails_with_the_reason(tmp_path: Path, slide: tuple[Path, GroundTruth]) -> None:
    with pytest.raises(JobFailed, match="mask before this job"):
        segmented(tmp_path, slide[0], inputs=(InputRef(job="gone", job_type="TISSUE_MASK", digest="d"),))


def test_a_40x_slide_is_analysed_at_half_resolution_and_exported_at_full(tmp_path: Path, slide: tuple[Path, GroundTruth]) -> None:
    artifacts = segmented(tmp_path, slide[0], mpp=0.25)
    assert orjson.loads(artifacts["summary.json"])["mpp"] == 0.5
    assert all((ring % 2 == 0).all() for ring in rings(artifacts))


def test_planning_again_keeps_the_published_layout(tmp_path: Path, slide: tuple[Path, GroundTruth]) -> None:
    context = job_context(tmp_path, slide[0], SegmentCells(), name="job")
    first = SegmentCells().plan(context)
    layout = context.tiles.read_part("layout")
    assert SegmentCells().plan(context) == first
    assert context.tiles.read_part("layout") == layout


def test_the_summary_says_what_the_cells_were_made_from_and_by(exported: dict[str, bytes]) -> None:
    summary = orjson.loads(exported["summary.json"])
    assert summary["software_version"] == scheduling.__version__
    assert (summary["job_type"], summary["job_type_version"]) == ("SEGMENT_CELLS", SegmentCells.version)
    assert summary["slide"] == {"name": "sample.tif", "fingerprint": summary["slide"]["fingerprint"], "mpp": 0.5}
    assert len(summary["model"]["hash"]) == 64
    assert summary["method"]["calibration"]["stains"]["source"] == "estimated"
    assert summary["method"]["calibration"]["stains"]["doubt"] == ""
    assert summary["method"]["calibration"]["dark_level"] > summary["method"]["calibration"]["pale_level"] > 0
    assert summary["method"]["calibration"]["pale_od"] == summary["method"]["calibration"]["pale_level"] / 125
    assert set(summary["parameters"]) == set(SegmentCells.parameters["properties"])
    assert summary["warnings"] == []


def test_columns_of_the_table_carry_their_units_and_the_parquet_file_its_geometry(exported: dict[str, bytes]) -> None:
    header = exported["cells.csv"].split(b"\n", 1)[0].decode().replace('"', "").split(",")
    measured = [name for name in header if name not in {"id", "class", "circularity", "solidity"}]
    assert all(name.endswith(("_px", "_um", "_um2")) or "_od_" in name for name in measured)
    schema = pyarrow.parquet.read_schema(BytesIO(exported["cells.parquet"]))
    assert schema.names == [*header, "geometry"]
    assert orjson.loads(schema.metadata[b"geo"])["primary_column"] == "geometry"


def rewritten(path: Path, pixels: np.ndarray) -> Path:
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", resolution=(2e4, 2e4), resolutionunit="CENTIMETER", metadata=None)
    return path


def test_black_padding_changes_no_cell(tmp_path: Path, slide: tuple[Path, GroundTruth]) -> None:
    pixels = open_slide(slide[0]).read(0, 0, WIDTH, HEIGHT)
    padded = rewritten(tmp_path / "padded.tif", np.pad(pixels, ((512, 512), (512, 512), (0, 0))))
    # The stain vectors of a slide are estimated on other windows when its frame is another.
    moved = [ring - 512 for ring in rings(segmented(tmp_path / "own", padded, tile_px=400))]
    found = agreement(slide[1], moved)
    assert min(found.recall, found.precision) >= 0.95
    plain = shapes(segmented(tmp_path / "plain", slide[0], tile_px=400, stain_vectors="customary"))
    with_padding = segmented(tmp_path / "padded", padded, tile_px=400, stain_vectors="customary")
    same = {(ring - 512).tobytes() for ring in rings(with_padding)}
    assert len(same & plain) > 0.98 * len(same | plain)


def test_a_slide_whose_stains_cannot_be_estimated_is_warned_of(tmp_path: Path, slide: tuple[Path, GroundTruth]) -> None:
    pixels = open_slide(slide[0]).read(0, 0, WIDTH, HEIGHT)
    grey = rewritten(tmp_path / "grey.tif", np.repeat(pixels[..., 1:2], 3, axis=2))
    mask = job_context(tmp_path, grey, TissueMask(), name="mask", method="grey")
    run_job(TissueMask(), mask)
    inputs = (InputRef(job="mask", job_type="TISSUE_MASK", digest="d"),)
    context = job_context(tmp_path, grey, SegmentCells(), name="job", inputs=inputs)
    plan = run_job(SegmentCells(), context)
    summary = orjson.loads(artifacts_of(context)["summary.json"])
    stains = summary["method"]["calibration"]["stains"]
    assert stains["source"] == "customary"
    assert stains["hematoxylin"] == list(HEMATOXYLIN)
    assert "apart" in stains["doubt"]
    assert plan.warnings == (f"The stain colours of this slide could not be estimated ({stains['doubt']}); the customary ones were used.",)
    assert summary["warnings"][0] == plan.warnings[0]


def test_customary_stains_that_were_asked_for_are_no_reason_to_warn(tmp_path: Path, slide: tuple[Path, GroundTruth]) -> None:
    summary = orjson.loads(segmented(tmp_path, slide[0], stain_vectors="customary")["summary.json"])
    assert summary["method"]["calibration"]["stains"]["source"] == "customary"
    assert summary["warnings"] == []


def test_nuclei_of_a_faint_stain_are_found(tmp_path: Path, slide: tuple[Path, GroundTruth]) -> None:
    pixels = open_slide(slide[0]).read(0, 0, WIDTH, HEIGHT)
    faint = rewritten(tmp_path / "faint.tif", np.round(244 * (pixels / 244.0) ** 0.35).clip(0, 255).astype(np.uint8))
    mask = job_context(tmp_path, faint, TissueMask(), name="mask", method="grey")
    run_job(TissueMask(), mask)
    inputs = (InputRef(job="mask", job_type="TISSUE_MASK", digest="d"),)
    assert agreement(slide[1], rings(segmented(tmp_path, faint, inputs=inputs))).recall > 0.8


def test_hardly_any_cells_on_much_tissue_are_doubted(tmp_path: Path, slide: tuple[Path, GroundTruth]) -> None:
    artifacts = segmented(tmp_path, slide[0], threshold_od=2.0)
    assert "cells" in orjson.loads(artifacts["summary.json"])["warnings"][0]

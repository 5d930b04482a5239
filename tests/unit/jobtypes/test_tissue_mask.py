from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest
import shapely

from scheduling.jobtypes.tissue_mask import Blocks, TissueMask
from scheduling.slides.pyramid import from_png
from scheduling.slides.reader import open_slide
from scheduling.slides.synthetic import write_sample
from tests.unit.jobtypes.driving import artifacts_of, job_context, run_job


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "sample.tif"
    write_sample(path, width=2000, height=1500, seed=11)
    return path


def test_blocks_cover_the_low_resolution_image_exactly(slide: Path) -> None:
    blocks = Blocks.of(open_slide(slide), 0.5)
    covered = np.zeros((blocks.height, blocks.width), int)
    for index in range(len(blocks)):
        left, top, width, height = blocks.place(index)
        covered[top : top + height, left : left + width] += 1
    assert (covered == 1).all()
    assert 4 <= len(blocks) <= 64


def test_the_artifacts_agree_with_each_other(tmp_path: Path, slide: Path) -> None:
    context = job_context(tmp_path, slide, TissueMask(), name="job")
    plan = run_job(TissueMask(), context)
    artifacts = artifacts_of(context)
    assert set(artifacts) == {"tissue.geojson", "mask.png", "summary.json"}
    summary, mask = orjson.loads(artifacts["summary.json"]), from_png(artifacts["mask.png"])
    assert mask.shape == (summary["mask"]["height"], summary["mask"]["width"])
    assert summary["tiles"]["total"] == plan.tiles_total
    assert summary["tissue_area_mm2"] == pytest.approx(np.count_nonzero(mask) * 0.008**2)
    features = orjson.loads(artifacts["tissue.geojson"])["features"]
    assert len(features) == summary["pieces"]
    assert {f["properties"]["objectType"] for f in features} == {"annotation"}
    assert {f["properties"]["classification"]["name"] for f in features} == {"Tissue"}
    total = sum(shapely.geometry.shape(f["geometry"]).area for f in features) * 0.0005**2
    assert total == pytest.approx(summary["tissue_area_mm2"], rel=0.02)


def test_the_order_of_tiles_changes_no_byte(tmp_path: Path, slide: Path) -> None:
    contexts = [job_context(tmp_path, slide, TissueMask(), name=name) for name in ("one", "two")]
    for context, order in zip(contexts, (list, lambda tiles: list(reversed(tiles))), strict=True):
        run_job(TissueMask(), context, order)
    assert artifacts_of(contexts[0]) == artifacts_of(contexts[1])


def test_blank_glass_succeeds_with_a_warning(tmp_path: Path) -> None:
    write_sample(tmp_path / "blank.tif", width=64, height=48, seed=1)
    context = job_context(tmp_path, tmp_path / "blank.tif", TissueMask(), name="job", threshold=255)
    run_job(TissueMask(), context)
    assert orjson.loads(artifacts_of(context)["tissue.geojson"])["features"] == []
    assert "No tissue was found" in orjson.loads(artifacts_of(context)["summary.json"])["warnings"][0]

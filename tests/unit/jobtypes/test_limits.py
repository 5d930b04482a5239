"""A job with a region has the cells that the whole slide has there; an annotation is a mask drawn by hand."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import shapely

from scheduling.jobtypes.base import AnnotationRef, InputRef, JobContext, JobFailed, JobSpec
from scheduling.jobtypes.masks import WHOLE_MASK
from scheduling.jobtypes.segment_cells import SegmentCells
from scheduling.jobtypes.tissue_mask import TissueMask
from scheduling.slides.areas.annotation import canonical, to_geojson
from scheduling.slides.areas.regions import Region
from scheduling.slides.reading.pyramid import from_png
from scheduling.slides.synthetic.slide import write_sample
from tests.unit.jobtypes.driving import job_context, run_job

WIDTH, HEIGHT = 2000, 1500
#: With a slope, a hole, and borders that are no borders of tiles.
AREA = canonical(shapely.Polygon([(300, 200), (1500, 350), (1300, 1200), (420, 1111)], [[(700, 500), (900, 500), (900, 700), (700, 700)]]))


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "sample.tif"
    write_sample(path, width=WIDTH, height=HEIGHT, seed=11)
    return path


def ran(data_dir: Path, slide: Path, job_type: Any, name: str = "job", inputs: tuple[InputRef, ...] = (), **limits: Any) -> JobContext:
    """A job with these limits, carried out."""
    context = job_context(data_dir, slide, job_type, name=name, inputs=inputs)
    context = replace(context, spec=replace(context.spec, **limits))
    run_job(job_type, context)
    return context


def summary(context: JobContext) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads((context.results / "summary.json").read_bytes())
    return found


def drawn(data_dir: Path, geometry: Any) -> AnnotationRef:
    """An annotation's file."""
    data = orjson.dumps(geometry)
    (data_dir / "annotations").mkdir(exist_ok=True)
    (data_dir / "annotations" / "a.geojson").write_bytes(data)
    return AnnotationRef(path="annotations/a.geojson", sha256=hashlib.sha256(data).hexdigest())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, slide: Path) -> JobContext:
    return ran(tmp_path_factory.mktemp("whole"), slide, SegmentCells())


def polygons(context: JobContext) -> dict[str, shapely.Polygon]:
    """Outlines of the cells by their id, which follows from slide and outline."""
    features = orjson.loads((context.results / "cells.geojson").read_bytes())["features"]
    return {feature["id"]: shapely.Polygon(feature["geometry"]["coordinates"][0]) for feature in features}


def inside(context: JobContext) -> set[str]:
    """Ids of the cells whose centroid lies in the area; an outline runs along pixels, so that both have one centroid."""
    cells = polygons(context)
    x, y = (np.array([getattr(cell.centroid, axis) for cell in cells.values()]) for axis in "xy")
    return {name for name, held in zip(cells, Region(area=AREA).holds(x, y), strict=True) if held}


def test_a_region_has_exactly_the_cells_of_the_whole_slide_whose_centroid_is_inside(tmp_path: Path, slide: Path, whole: JobContext) -> None:
    context = ran(tmp_path, slide, SegmentCells(), region=to_geojson(AREA))
    expected = inside(whole)
    assert 100 < len(expected) < len(polygons(whole))
    assert polygons(context) == {name: shape for name, shape in polygons(whole).items() if name in expected}
    assert summary(context)["run"]["tiles"] <= summary(whole)["run"]["tiles"]
    assert summary(context)["method"] == summary(whole)["method"]
    assert summary(context)["region"] == to_geojson(AREA)


def test_only_tiles_that_meet_the_region_are_made(tmp_path: Path, slide: Path) -> None:
    context = job_context(tmp_path, slide, SegmentCells(), name="job", tile_px=128)
    corner = replace(context, spec=replace(context.spec, region=to_geojson(canonical(shapely.box(640, 512, 896, 768)))))
    assert SegmentCells().plan(corner).tiles_total <= 4


def test_a_region_goes_the_same_way_through_a_tissue_mask_with_that_region(tmp_path: Path, slide: Path, whole: JobContext) -> None:
    region = to_geojson(AREA)
    ran(tmp_path, slide, TissueMask(), name="mask", region=region)
    after = (InputRef(job="mask", job_type="TISSUE_MASK", digest="d"),)
    assert set(polygons(ran(tmp_path, slide, SegmentCells(), name="cells", inputs=after, region=region))) == inside(whole)
    # Without one of its own, it looks where that mask is.
    assert set(polygons(ran(tmp_path, slide, SegmentCells(), name="loose", inputs=after))) >= inside(whole)


def test_a_tissue_mask_with_a_region_keeps_tissue_inside_alone_with_its_area(tmp_path: Path, slide: Path) -> None:
    context, plain = ran(tmp_path, slide, TissueMask(), region=to_geojson(AREA)), ran(tmp_path, slide, TissueMask(), name="plain")
    pixels, all_pixels = (from_png((c.results / "mask.png").read_bytes()) for c in (context, plain))
    downsample = summary(context)["mask"]["downsample"]
    assert (pixels <= all_pixels).all()
    assert (from_png((context.results / WHOLE_MASK).read_bytes()) == all_pixels).all()
    assert not (plain.results / WHOLE_MASK).exists()
    features = orjson.loads((context.results / "tissue.geojson").read_bytes())["features"]
    outlines = shapely.union_all(
        [shapely.make_valid(shapely.Polygon(f["geometry"]["coordinates"][0], f["geometry"]["coordinates"][1:])) for f in features]
    )
    assert outlines.difference(AREA.buffer(1)).is_empty
    kept = Region(area=AREA).coverage(*pixels.shape[::-1], downsample)[all_pixels > 0].sum() * (0.5 * downsample / 1000) ** 2
    assert summary(context)["tissue_area_mm2"] == pytest.approx(kept, rel=1e-5)
    assert sum(f["properties"]["measurements"]["Area mm^2"] for f in features) == pytest.approx(kept, rel=1e-3)


def test_a_region_without_tissue_is_never_a_silent_success(tmp_path: Path, slide: Path) -> None:
    empty = to_geojson(canonical(shapely.box(0, 0, 9, 9)))
    assert "none in the region" in ran(tmp_path, slide, TissueMask(), region=empty).warnings[0]
    with pytest.raises(JobFailed, match="No tissue was found in this region"):
        ran(tmp_path, slide, SegmentCells(), name="cells", region=empty)


def test_cells_are_sought_in_the_annotation_in_place_of_the_tissue_and_its_area_is_exact(tmp_path: Path, slide: Path) -> None:
    context = ran(tmp_path, slide, SegmentCells(), annotation=drawn(tmp_path, to_geojson(AREA)))
    assert set(polygons(context)) == inside(context)
    assert len(polygons(context)) > 100
    assert summary(context)["tissue_area_mm2"] == pytest.approx(AREA.area * (0.5 / 1000) ** 2, rel=1e-5)
    half = canonical(shapely.box(0, 0, 900, HEIGHT))
    both = ran(tmp_path, slide, SegmentCells(), name="both", annotation=context.spec.annotation, region=to_geojson(half))
    x = [cell.centroid.x for cell in polygons(both).values()]
    assert set(polygons(both)) == {name for name, cell in polygons(context).items() if cell.centroid.x < 900}
    assert max(x) < 900


@pytest.mark.parametrize(("change", "words"), [(Path.unlink, "is gone"), (lambda path: path.write_bytes(b"{}"), "is damaged")])
def test_an_annotation_that_is_not_what_was_uploaded_fails_the_job(tmp_path: Path, slide: Path, change: Any, words: str) -> None:
    given = drawn(tmp_path, to_geojson(AREA))
    change(tmp_path / given.path)
    with pytest.raises(JobFailed, match=words):
        ran(tmp_path, slide, SegmentCells(), annotation=given)


def test_limits_travel_with_the_job(tmp_path: Path, slide: Path) -> None:
    spec = replace(
        job_context(tmp_path, slide, SegmentCells(), name="job").spec,
        region=to_geojson(AREA),
        annotation=AnnotationRef(path="a", sha256="b"),
    )
    assert JobSpec.from_json(orjson.loads(orjson.dumps(spec.to_json()))) == spec

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely

from scheduling.slides.interface import RGB
from scheduling.slides.reader import open_slide
from scheduling.slides.synthetic import write_sample
from scheduling.slides.tissue import TissueParameters, find_tissue, mask_downsample, read_overview, tissue_polygons

PINK, GLASS = (215, 130, 165), (243, 242, 244)


def overview(*boxes: tuple[int, int, int, int], color: tuple[int, int, int] = PINK) -> RGB:
    image = np.full((200, 300, 3), GLASS, np.uint8)
    for left, top, right, bottom in boxes:
        image[top:bottom, left:right] = color
    return image


def test_tissue_is_found_with_its_area_and_holes() -> None:
    image = overview((50, 50, 150, 150))
    image[80:120, 80:120] = GLASS
    found = find_tissue(image, 16, 0.5, TissueParameters(dilate_um=0))
    assert found.warnings == ()
    assert found.area_mm2 == pytest.approx((100**2 - 40**2) * 0.008**2, rel=0.05)
    (polygon,) = tissue_polygons(found, 300 * 16, 200 * 16)
    assert polygon.is_valid
    assert len(polygon.interiors) == 1
    assert polygon.area * 0.0005**2 == pytest.approx(found.area_mm2)


def test_a_biopsy_is_kept_and_a_speck_is_dropped() -> None:
    found = find_tissue(overview((20, 20, 40, 60), (200, 100, 208, 108)), 16, 0.5, TissueParameters())
    assert len(tissue_polygons(found, 4800, 3200)) == 1


@pytest.mark.parametrize("color", [(20, 120, 40), (30, 30, 34)])
def test_marker_ink_is_no_tissue(color: tuple[int, int, int]) -> None:
    image = overview((50, 50, 100, 150))
    image[50:150, 200:280] = color
    found = find_tissue(image, 16, 0.5, TissueParameters())
    assert not found.mask[60:140, 215:265].any()
    assert found.mask[60:140, 60:90].all()


def test_black_padding_is_no_tissue() -> None:
    image = overview((50, 50, 100, 150))
    image[:, 220:] = 0
    assert not find_tissue(image, 16, 0.5, TissueParameters()).mask[:, 230:].any()


def test_blank_glass_is_said_to_hold_no_tissue() -> None:
    found = find_tissue(overview(), 16, 0.5, TissueParameters())
    assert not found.mask.any()
    assert "No tissue was found" in found.warnings[0]


def test_a_slide_full_of_tissue_is_doubted() -> None:
    found = find_tissue(overview((0, 0, 300, 200)), 16, 0.5, TissueParameters(threshold=20, method="saturation"))
    assert any("check the mask" in warning or "No tissue" in warning for warning in found.warnings)


def test_faint_tissue_is_found_by_its_darkness() -> None:
    image = overview((50, 50, 150, 150), color=(205, 204, 206))
    assert find_tissue(image, 16, 0.5, TissueParameters(method="grey")).mask[60:140, 60:140].all()


def test_the_mask_of_the_sample_follows_its_terrain(tmp_path: Path) -> None:
    truth = write_sample(tmp_path / "s.tif", width=2000, height=1500, seed=5)
    reader = open_slide(tmp_path / "s.tif")
    downsample = mask_downsample(reader.width, reader.height, 0.5)
    found = find_tissue(read_overview(reader, downsample), downsample, 0.5, TissueParameters())
    column, row = (np.asarray(values // downsample, np.int64) for values in (truth.nuclei.x, truth.nuclei.y))
    assert (found.mask[row, column] > 0).mean() > 0.95
    assert 0.15 < (found.mask > 0).mean() < 0.6
    assert all(shapely.is_valid(shape) for shape in tissue_polygons(found, reader.width, reader.height))


def test_the_mask_never_passes_25_megapixels() -> None:
    downsample = mask_downsample(200_000, 150_000, 0.25)
    assert (200_000 / downsample) * (150_000 / downsample) < 25_000_000


def test_a_thin_strand_of_tissue_is_kept() -> None:
    found = find_tissue(overview((50, 50, 100, 150), (100, 90, 220, 95)), 16, 0.5, TissueParameters())
    assert found.mask[92, 100:218].all()

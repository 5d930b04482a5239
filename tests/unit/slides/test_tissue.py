"""Tissue is found on whatever a scanner delivers, and nothing else is taken for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from scheduling.jobtypes.parameters import filled
from scheduling.jobtypes.tissue_mask_schema import PARAMETERS
from scheduling.slides.reading.interface import RGB
from scheduling.slides.reading.reader import open_slide
from scheduling.slides.synthetic.slide import write_sample
from scheduling.slides.tissue.constants import METHODS, PRESETS, TissueParameters
from scheduling.slides.tissue.mask import TissueMask, find_tissue, tissue_of
from tests.unit.slides import overviews as o

STROKE = [(30, 20), (290, 25), (290, 340)]


def found_on(image: RGB, **given: Any) -> TissueMask:
    """The mask without a margin, unless told otherwise."""
    return find_tissue(image, o.DOWNSAMPLE, o.MPP, TissueParameters(**filled(PARAMETERS, {"dilate_um": 0, **given})))


def pieces(found: TissueMask) -> list[shapely.Polygon]:
    height, width = found.mask.shape
    return o.outlined(found, width * o.DOWNSAMPLE, height * o.DOWNSAMPLE)


def padded(image: RGB, level: int) -> RGB:
    image[:, 470:] = level
    image[:30] = level
    return image


SCENES: dict[str, Callable[[], RGB]] = {
    "plain": lambda: o.scanned(o.stained(o.empty(), o.two_pieces())),
    "faint": lambda: o.scanned(o.stained(o.empty(), o.two_pieces(), strength=0.3)),
    "yellowish glass": lambda: o.scanned(o.stained(o.empty(color=(240, 236, 220)), o.two_pieces())),
    "bluish glass": lambda: o.scanned(o.stained(o.empty(color=(228, 234, 246)), o.two_pieces())),
    "dim light": lambda: o.scanned(o.stained(o.empty(color=(205, 203, 207)), o.two_pieces())),
    "uneven light": lambda: o.scanned(o.unevenly_lit(o.stained(o.empty(), o.two_pieces()))),
    "black padding": lambda: padded(o.scanned(o.stained(o.empty(), o.two_pieces())), 0),
    "white padding": lambda: padded(o.scanned(o.stained(o.empty(), o.two_pieces())), 255),
    "dust, bubbles, edges": lambda: o.scanned(o.littered(o.stained(o.empty(), o.two_pieces()))),
}
BLANKS: dict[str, Callable[[], RGB]] = {
    "white": lambda: np.full((360, 520, 3), 255, np.uint8),
    "neutral": lambda: o.scanned(o.empty()),
    "yellowish": lambda: o.scanned(o.empty(color=(240, 236, 220))),
    "dim": lambda: o.scanned(o.empty(color=(205, 203, 207))),
    "unevenly lit": lambda: o.scanned(o.unevenly_lit(o.empty())),
    "dust, bubbles, edges": lambda: o.scanned(o.littered(o.empty())),
    "black": lambda: np.zeros((360, 520, 3), np.uint8),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scene", SCENES)
def test_planted_tissue_is_found_with_every_method_whatever_else_is_there(scene: str, method: str) -> None:
    found = found_on(SCENES[scene](), method=method)
    assert o.overlap(found.mask, o.two_pieces()) >= 0.93
    assert len(pieces(found)) == 2


@pytest.mark.parametrize("method", ["saturation", "grey"])
def test_the_area_of_tissue_is_right_within_two_percent(method: str) -> None:
    found = found_on(SCENES["plain"](), method=method)
    assert found.area_mm2 == pytest.approx(o.two_pieces().sum() * 0.008**2, rel=0.02)
    assert found.warnings == ()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("blank", BLANKS)
def test_blank_glass_holds_no_tissue_and_the_warning_says_what_may_help(blank: str, method: str) -> None:
    found = found_on(BLANKS[blank](), method=method)
    assert not found.mask.any()
    assert found.warnings[0].startswith("No tissue was found. If there is some: ")
    assert 'preset "biopsy"' in found.warnings[0]


def test_tissue_without_colour_is_found_by_its_darkness_and_by_its_texture_and_no_other_way() -> None:
    image = o.scanned(o.dyed(o.empty(), o.two_pieces(), (1, 1, 1), density=0.1))
    assert all(o.overlap(found_on(image, method=method).mask, o.two_pieces()) >= 0.9 for method in ("grey", "entropy"))
    assert 'method "grey"' in found_on(image).warnings[0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pen", o.PENS)
def test_marker_ink_is_no_tissue(pen: str, method: str) -> None:
    image, stroke = o.marked(o.stained(o.empty(), o.two_pieces()), STROKE, o.PENS[pen])
    found = found_on(o.scanned(image), method=method)
    assert (found.mask[stroke & ~o.two_pieces()] > 0).mean() < 0.02
    assert (found.mask[o.two_pieces() & ~stroke] > 0).mean() > 0.93
    assert len(pieces(found)) == 2


@pytest.mark.parametrize(("pen", "switch"), [("red", "remove_pen"), ("green", "remove_pen"), ("black", "remove_black")])
def test_ink_stays_where_its_removal_is_switched_off(pen: str, switch: str) -> None:
    image, stroke = o.marked(o.stained(o.empty(), o.two_pieces()), STROKE, o.PENS[pen])
    found = found_on(o.scanned(image), method="grey", **{switch: False})
    assert (found.mask[stroke] > 0).mean() > 0.95
    assert (found.removed[stroke & ~o.two_pieces()] > 0).mean() < 0.02


@pytest.mark.parametrize("color", [(196, 62, 72), (225, 105, 85), (115, 70, 40)], ids=["blood", "pale blood", "DAB"])
def test_blood_and_brown_stain_are_not_taken_for_ink(color: o.Color) -> None:
    lake, image = o.ellipse(360, 520, 170, 190, 50, 60), o.stained(o.empty(), o.two_pieces())
    image[lake] = np.asarray(color) + np.random.default_rng(3).normal(0, 4, (lake.sum(), 1))
    assert (found_on(o.scanned(image)).mask[lake] > 0).mean() > 0.97


@pytest.mark.parametrize(
    "dye",
    [(0.75, 0.62, 0.23), (0.75, 0.25, 0.45), (0.80, 0.45, 0.12), (0.90, 0.30, 0.15)],
    ids=["dense nuclei", "light green", "aniline blue", "Alcian blue"],
)
def test_textured_tissue_in_the_colours_of_ink_is_tissue(dye: tuple[float, float, float]) -> None:
    found = found_on(o.scanned(o.dyed(o.empty(), o.two_pieces(), dye)))
    assert o.overlap(found.mask, o.two_pieces()) > 0.95


def test_a_slide_whose_stain_looks_like_ink_is_told_how_to_switch_the_removal_off() -> None:
    image = o.empty()
    image[o.two_pieces()] = (60, 150, 90)
    found = found_on(o.scanned(image))
    assert any("remove_pen" in warning for warning in found.warnings)
    assert o.overlap(found_on(o.scanned(image), remove_pen=False).mask, o.two_pieces()) > 0.95


@pytest.mark.parametrize("method", METHODS)
def test_needle_biopsies_half_a_millimetre_wide_are_kept_with_their_fragments(method: str) -> None:
    tissue = np.zeros((300, 900), np.bool_)
    for row, left in ((60, 40), (150, 90)):
        tissue[row : row + 62, left : left + 760] = True
    for column in range(100, 800, 100):
        tissue |= o.ellipse(300, 900, column, 260, 6, 6)
    found = found_on(o.scanned(o.stained(o.empty(300, 900), tissue)), method=method, preset="biopsy")
    assert len(pieces(found)) == 2 + 7
    assert o.overlap(found.mask, tissue) > 0.92


@pytest.mark.parametrize("method", METHODS)
def test_the_cores_of_a_tissue_microarray_stay_apart(method: str) -> None:
    centres = [(90 + 160 * column, 90 + 160 * row) for column in range(5) for row in range(3)]
    tissue = np.any([o.ellipse(500, 820, x, y, 62, 62) for x, y in centres], axis=0)
    found = found_on(o.scanned(o.stained(o.empty(500, 820), tissue)), method=method, preset="tma", dilate_um=None)
    cores = pieces(found)
    assert len(cores) == len(centres)
    assert all(any(core.contains(shapely.Point(x * 16, y * 16)) for core in cores) for x, y in centres)


def test_a_slide_full_of_tissue_is_doubted() -> None:
    found = found_on(o.scanned(o.stained(o.empty(), np.ones((360, 520), np.bool_))), dilate_um=16)
    assert (found.mask > 0).mean() > 0.95
    assert "of the slide was taken for tissue" in found.warnings[0]


def test_hardly_any_tissue_is_doubted() -> None:
    speck = o.ellipse(600, 900, 300, 300, 10, 10)
    found = found_on(o.scanned(o.stained(o.empty(600, 900), speck)))
    assert len(pieces(found)) == 1
    assert found.warnings[0].startswith("Only 0.0")


def test_tissue_that_hardly_differs_from_glass_is_doubted() -> None:
    found = found_on(o.scanned(o.stained(o.empty(), o.two_pieces(), strength=0.12)))
    assert found.mask.any()
    assert any("hardly differ" in warning for warning in found.warnings)


def test_a_threshold_that_is_given_is_used_and_not_doubted() -> None:
    image = SCENES["plain"]()
    strict, lax = (found_on(image, threshold=threshold) for threshold in (60, 12.7))
    assert (strict.threshold, lax.threshold) == (60, 12)
    assert 0 < strict.area_mm2 < lax.area_mm2
    assert found_on(image, method="grey", threshold=200).threshold == 200
    assert found_on(image, method="entropy", threshold=1.5).threshold == 1.5


def test_small_thin_and_hollow_pieces_follow_the_sizes_that_are_given() -> None:
    tissue = o.two_pieces() & ~o.ellipse(360, 520, 170, 190, 12, 12)
    tissue[20:24, 20:500] = True
    tissue[300:320, 20:40] = True
    image = o.scanned(o.stained(o.empty(), tissue, strength=1.5))
    assert len(pieces(found_on(image, min_width_um=0))) == 4
    assert len(pieces(found_on(image))) == 3
    assert len(pieces(found_on(image, min_area_mm2=0.05))) == 2
    assert sum(len(piece.interiors) for piece in pieces(found_on(image))) == 1
    assert sum(len(piece.interiors) for piece in pieces(found_on(image, max_hole_mm2=0.05))) == 0


def test_a_strand_that_hangs_on_a_piece_is_kept() -> None:
    tissue = o.two_pieces()
    tissue[100:105, 170:300] = True
    image = o.scanned(o.stained(o.empty(), tissue, strength=1.5))
    assert (found_on(image).mask[101:104, 230:295] > 0).mean() > 0.9


def test_the_margin_has_the_width_that_is_given() -> None:
    image = SCENES["plain"]()
    bare, grown = found_on(image), found_on(image, dilate_um=80)
    distance = shapely.hausdorff_distance(shapely.union_all(pieces(bare)), shapely.union_all(pieces(grown))) * o.MPP
    assert distance == pytest.approx(80, abs=12)


@pytest.mark.parametrize(
    "turn", [lambda a: a[:, ::-1], lambda a: a[::-1], lambda a: np.roll(a, (17, -23), (0, 1))], ids=["x", "y", "shift"]
)
def test_the_mask_of_a_mirrored_or_shifted_slide_is_the_mask_mirrored_or_shifted(turn: Callable[[Any], Any]) -> None:
    image, _ = o.marked(o.littered(o.stained(o.empty(460, 640), np.pad(o.two_pieces(), ((50, 50), (60, 60))))), STROKE, o.PENS["blue"])
    image[:60] = image[-60:] = o.GLASS
    image[:, :60] = image[:, -60:] = o.GLASS
    rgb = image.round().astype(np.uint8)
    for preset in PRESETS:
        plain, turned = (found_on(np.ascontiguousarray(pixels), preset=preset, dilate_um=None) for pixels in (rgb, turn(rgb)))
        assert np.array_equal(turn(plain.mask), turned.mask)


def test_the_mask_of_the_sample_follows_its_terrain(tmp_path: Path) -> None:
    truth = write_sample(tmp_path / "s.tif", width=2000, height=1500, seed=5)
    reader = open_slide(tmp_path / "s.tif")
    found = tissue_of(reader, 0.5, TissueParameters())
    column, row = (np.asarray(values // found.downsample, np.int64) for values in (truth.nuclei.x, truth.nuclei.y))
    assert (found.mask[row, column] > 0).mean() > 0.95
    assert 0.15 < (found.mask > 0).mean() < 0.6
    assert all(shapely.is_valid(shape) for shape in o.outlined(found, reader.width, reader.height))

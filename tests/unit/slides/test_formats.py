"""What each kind of file is taken for: its pixels, its microns and where they come from, or the reason why it is no slide."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openslide
import pytest
import tifffile
from PIL import Image

from scheduling.errors import UnreadableSlide
from scheduling.slides.reading import interface, pictures
from scheduling.slides.reading import reader as reader_module
from scheduling.slides.reading.openslides import OpenSlideReader
from scheduling.slides.reading.reader import describe, open_slide
from scheduling.slides.reading.tiff import TiffReader

Bytes = npt.NDArray[np.uint8]
BARE = {"metadata": None}


@pytest.fixture
def picture() -> Bytes:
    return np.random.default_rng(0).integers(0, 256, (130, 170, 3), np.uint8)


def pixels(path: Path) -> Bytes:
    return open_slide(path).read(0, 0, 170, 130)


def refusal(path: Path) -> str:
    with pytest.raises(UnreadableSlide) as raised:
        describe(path)
    return raised.value.message


# ---- PNG and JPEG


def test_pictures_of_every_mode_are_read(tmp_path: Path, picture: Bytes) -> None:
    image, grey = Image.fromarray(picture), picture[:, :, 0]
    for mode in ("RGB", "L", "1", "P"):
        image.convert(mode).save(tmp_path / f"{mode}.png")
        assert (pixels(tmp_path / f"{mode}.png") == np.asarray(image.convert(mode).convert("RGB"))).all(), mode
    Image.fromarray(np.dstack([grey, np.where(np.arange(170) < 50, 0, 255)[None].repeat(130, 0).astype(np.uint8)])).save(
        tmp_path / "LA.png"
    )
    found = pixels(tmp_path / "LA.png")
    assert (found[:, :50] == 255).all()
    assert (found[:, 50:] == grey[:, 50:, None]).all()
    for mode in ("RGB", "L", "CMYK"):
        image.convert(mode).save(tmp_path / f"{mode}.jpg", quality=95)
        expected = np.asarray(Image.open(tmp_path / f"{mode}.jpg").convert("RGB"))
        assert (pixels(tmp_path / f"{mode}.jpg") == expected).all(), mode
    assert describe(tmp_path / "RGB.jpg").format == "jpeg"


def test_a_palette_with_a_transparent_colour_is_white_there(tmp_path: Path) -> None:
    image = Image.new("P", (40, 30), 0)
    image.putpalette([200, 10, 10, 10, 200, 10])
    image.paste(1, (10, 0, 40, 30))
    image.save(tmp_path / "p.png", transparency=0)
    found = open_slide(tmp_path / "p.png").read(0, 0, 40, 30)
    assert (found[:, :10] == 255).all()
    assert (found[:, 10:] == (10, 200, 10)).all()


def png_of(samples: npt.NDArray[np.uint16], colour_type: int) -> bytes:
    """A PNG of 16 bits, written here since no library at hand writes all colour types."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(("colour_type", "samples"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_a_png_of_16_bits_is_scaled_by_its_brightest_sample(tmp_path: Path, colour_type: int, samples: int) -> None:
    deep = np.random.default_rng(2).integers(0, 4000, (30, 40, samples)).astype(np.uint16)
    if samples in (2, 4):
        deep[:, :, -1] = np.where(np.arange(40) < 10, 0, 65_535)
    (tmp_path / "deep.png").write_bytes(png_of(deep, colour_type))
    found = open_slide(tmp_path / "deep.png").read(0, 0, 40, 30)
    colours = deep[:, :, : 3 if samples >= 3 else 1]
    expected = np.round(colours.astype(float) * 255 / 4095)
    assert np.abs(found[:, 10:].astype(int) - expected[:, 10:]).max() <= 1
    if samples in (2, 4):
        assert (found[:, :10] == 255).all()


@pytest.mark.parametrize(("dpi", "mpp"), [((72, 72), None), ((300, 300), None), ((50_800, 50_800), 0.5)])
@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_printers_density_is_told_and_not_used(tmp_path: Path, picture: Bytes, kind: str, dpi: Any, mpp: float | None) -> None:
    Image.fromarray(picture).save(tmp_path / f"a.{kind}", dpi=dpi)
    found = describe(tmp_path / f"a.{kind}")
    assert found.mpp == (None if mpp is None else pytest.approx(mpp, rel=1e-3))
    assert found.mpp_from == ("" if mpp is None else {"png": "png.pHYs", "jpeg": "jpeg.density"}[kind])
    assert len(found.warnings) == (mpp is None)
    assert mpp is not None or "dots per inch" in found.warnings[0]


def test_a_picture_that_says_nothing_of_its_size_warns_of_nothing(tmp_path: Path, picture: Bytes) -> None:
    Image.fromarray(picture).save(tmp_path / "a.png")
    assert (describe(tmp_path / "a.png").mpp, describe(tmp_path / "a.png").warnings) == (None, ())


def test_a_turned_jpeg_is_read_as_stored_and_says_so(tmp_path: Path, picture: Bytes) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture).save(tmp_path / "a.jpg", exif=exif)
    found = describe(tmp_path / "a.jpg")
    assert (found.width, found.height) == (170, 130)
    assert any("orientation 6" in warning for warning in found.warnings)


def test_a_picture_beyond_the_bound_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bomb: 400 KB that would be 1.2 GB."""
    head = struct.pack(">IIBBBBB", 20_001, 20_000, 8, 2, 0, 0, 0)
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in [(b"IHDR", head), (b"IDAT", b"x")])
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert "20,001 x 20,000" in refusal(tmp_path / "bomb.png")
    Image.new("RGB", (100, 90)).save(tmp_path / "a.jpg")
    monkeypatch.setattr(pictures, "MOST_PX", 8_999)
    assert "100 x 90" in refusal(tmp_path / "a.jpg")


@pytest.mark.parametrize("kind", ["png", "jpeg"])
@pytest.mark.parametrize("part", [0.01, 0.3, 0.9])
def test_a_truncated_picture_is_refused(tmp_path: Path, picture: Bytes, kind: str, part: float) -> None:
    deep = png_of(np.full((60, 70, 3), 40_000, np.uint16) + picture[:60, :70], 2)
    (tmp_path / "deep").write_bytes(deep[: max(40, int(len(deep) * part))])
    assert refusal(tmp_path / "deep")
    written = io.BytesIO()
    Image.fromarray(picture).save(written, kind)
    data = written.getvalue()
    (tmp_path / "cut").write_bytes(data[: max(12, int(len(data) * part))])
    assert refusal(tmp_path / "cut")


def test_damaged_pictures_raise_nothing_but_unreadable(tmp_path: Path, picture: Bytes) -> None:
    random = np.random.default_rng(3)
    for kind in ("png", "jpeg"):
        written = io.BytesIO()
        Image.fromarray(picture).save(written, kind)
        for _ in range(40):
            data = bytearray(written.getvalue())
            for at in random.integers(8, min(len(data), 400), 3):
                data[at] = random.integers(0, 256)
            (tmp_path / "bad").write_bytes(data)
            try:
                open_slide(tmp_path / "bad")
            except UnreadableSlide as error:
                assert error.message


# ---- TIFF


@pytest.mark.parametrize(("bits", "options"), [(16, {}), (12, {}), (10, {}), (12, {"extratags": [(281, 3, 1, 4095, False)]})])
def test_16_bits_are_scaled_by_one_rule_for_the_whole_slide(tmp_path: Path, bits: int, options: dict[str, Any]) -> None:
    """The darkest tile has no bright sample: by its own it would come out white."""
    white = 2**bits - 1
    deep = np.full((300, 300, 3), white, np.uint16)
    deep[:128, :128] = white // 5
    tifffile.imwrite(tmp_path / "a.tif", deep, tile=(128, 128), photometric="rgb", **BARE, **options)
    found = open_slide(tmp_path / "a.tif")
    assert (found.read(200, 200, 50, 50) == 255).all()
    assert np.abs(found.read(0, 0, 128, 128).astype(int) - 51).max() <= 1


def test_what_the_file_says_of_its_bits_goes_before_what_is_seen(tmp_path: Path) -> None:
    dark = np.full((64, 64), 1000, np.uint16)
    metadata = {"axes": "YX", "SignificantBits": 12}
    tifffile.imwrite(tmp_path / "a.ome.tif", dark, photometric="minisblack", metadata=metadata)
    assert (open_slide(tmp_path / "a.ome.tif").read(0, 0, 64, 64) == round(1000 * 255 / 4095)).all()


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("options", [{"tile": (64, 64)}, {"rowsperstrip": 10, "compression": "zlib"}])
def test_alpha_is_laid_over_white(tmp_path: Path, picture: Bytes, kind: str, options: dict[str, Any]) -> None:
    alpha = np.where(np.arange(170) < 60, 0, 128).astype(np.uint8)[None].repeat(130, 0)
    stored = picture if kind == "unassalpha" else (picture.astype(np.uint16) * alpha[:, :, None] // 255).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", np.dstack([stored, alpha]), photometric="rgb", extrasamples=[kind], **BARE, **options)
    found = pixels(tmp_path / "a.tif")
    assert (found[:, :60] == 255).all()
    expected = picture[:, 60:] * (128 / 255) + 255 * (127 / 255)
    assert np.abs(found[:, 60:] - expected).max() <= 1.5


def test_a_fourth_sample_that_is_no_alpha_is_left_out(tmp_path: Path, picture: Bytes) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", np.dstack([picture, picture[:, :, 0]]), photometric="rgb", extrasamples=["unspecified"], tile=(64, 64), **BARE
    )
    assert (pixels(tmp_path / "a.tif") == picture).all()


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("options", [{"tile": (64, 64)}, {"rowsperstrip": 7}, {}])
def test_grey_is_read_in_both_senses(tmp_path: Path, picture: Bytes, photometric: str, options: dict[str, Any]) -> None:
    grey = picture[:, :, 0]
    tifffile.imwrite(tmp_path / "a.tif", grey, photometric=photometric, **BARE, **options)
    assert (pixels(tmp_path / "a.tif") == (grey if photometric == "minisblack" else 255 - grey)[:, :, None]).all()


def test_tiles_that_a_sparse_file_leaves_out_are_white(tmp_path: Path, picture: Bytes) -> None:
    def tiles() -> Any:
        yield from (picture[:64, :64], None, None, None, None, None)

    for name, options in {"rgb.tif": {}, "grey.tif": {"photometric": "minisblack"}}.items():
        given = tiles() if name == "rgb.tif" else (t if t is None else t[:, :, 0] for t in tiles())
        shape = (100, 170, 3) if name == "rgb.tif" else (100, 170)
        options = {"photometric": "rgb", "compression": "zlib", **options}
        tifffile.imwrite(tmp_path / name, given, shape=shape, dtype=np.uint8, tile=(64, 64), **BARE, **options)
        found = TiffReader(tmp_path / name).read(0, 0, 170, 100)
        assert (found[64:] == 255).all()
        assert (found[:64, :64] == (picture[:64, :64] if name == "rgb.tif" else picture[:64, :64, :1])).all()


def test_a_file_of_one_huge_strip_is_read_in_parts(tmp_path: Path) -> None:
    """As ImageJ writes them: nothing but the rows asked for is read from the disk."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, shape=(30_000, 4_000, 3), dtype=np.uint8, photometric="rgb", **BARE)
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages.first.dataoffsets) == 1
    reader = open_slide(path)
    assert reader.held_bytes < 5_000_000
    assert (reader.read(3_900, 29_950, 200, 100)[:50, :100] == 0).all()


def test_one_huge_compressed_strip_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((11_000, 11_000, 3), np.uint8), photometric="rgb", compression="zlib", rowsperstrip=11_000, **BARE)
    assert "tiled pyramid" in refusal(path)


def test_a_slide_too_large_for_a_picture_of_the_whole_says_so(tmp_path: Path, picture: Bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "a.tif", picture, tile=(64, 64), photometric="rgb", **BARE)
    for limit in (interface, reader_module):
        monkeypatch.setattr(limit, "THUMBNAIL_MOST_PX", 130 * 170 - 1)
    with pytest.raises(UnreadableSlide, match="tiled pyramid"):
        open_slide(tmp_path / "a.tif").thumbnail(64)
    assert "no thumbnail" in describe(tmp_path / "a.tif").warnings[0]
    with tifffile.TiffWriter(tmp_path / "b.tif") as tiff:
        tiff.write(picture, tile=(64, 64), photometric="rgb", metadata=None)
        tiff.write(picture[::10, ::10], tile=(64, 64), photometric="rgb", subfiletype=1, metadata=None)
    assert open_slide(tmp_path / "b.tif").thumbnail(64).shape == (13, 17, 3)


def test_a_reduced_page_of_another_shape_is_no_level(tmp_path: Path, picture: Bytes) -> None:
    """Label and macro images stand beside the specimen, and are never shown."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for index, page in enumerate((picture, picture[::3, ::3], picture[:100, :40], picture[::9, ::9])):
            tiff.write(page, rowsperstrip=16, compression="lzw", photometric="rgb", subfiletype=int(index > 0), metadata=None)
    assert [(level.width, level.height) for level in open_slide(tmp_path / "a.tif").levels] == [(170, 130), (57, 44), (19, 15)]


@pytest.mark.parametrize(
    ("shape", "options", "reason"),
    [
        ((5, 130, 170), {"metadata": {"axes": "CYX"}, "photometric": "minisblack"}, "5 channels, as in fluorescence"),
        (
            (3, 130, 170),
            {"metadata": {"axes": "CYX", "Channel": {"Name": ["DAPI", "FITC", "Cy5"]}}, "photometric": "minisblack"},
            "3 channels, as in fluorescence",
        ),
        ((4, 130, 170, 3), {"metadata": {"axes": "ZYXS"}, "photometric": "rgb"}, "z-stack"),
        ((4, 130, 170, 3), {"metadata": {"axes": "TYXS"}, "photometric": "rgb"}, "time series"),
    ],
)
def test_an_ome_tiff_that_is_no_brightfield_image_says_what_it_is(
    tmp_path: Path, shape: tuple[int, ...], options: dict[str, Any], reason: str
) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros(shape, np.uint8), **options)
    assert reason in refusal(tmp_path / "a.ome.tif")


def test_tiffs_that_are_no_brightfield_image_say_what_they_are(tmp_path: Path, picture: Bytes) -> None:
    grey = picture[:, :, 0]
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([grey] * 3), photometric="minisblack", **BARE)
    tifffile.imwrite(tmp_path / "float.tif", grey.astype(np.float32))
    tifffile.imwrite(tmp_path / "cmyk.tif", np.dstack([picture, grey]), photometric="separated", **BARE)
    tifffile.imwrite(tmp_path / "imagej.tif", np.stack([grey] * 2), imagej=True, metadata={"axes": "CYX"})
    assert "stack of pages" in refusal(tmp_path / "stack.tif")
    assert "float32" in refusal(tmp_path / "float.tif")
    assert "SEPARATED" in refusal(tmp_path / "cmyk.tif")
    assert "2 channels" in refusal(tmp_path / "imagej.tif")


def test_black_padding_is_told(tmp_path: Path) -> None:
    padded = np.full((300, 400, 3), 230, np.uint8)
    padded[:, :100] = 0
    tifffile.imwrite(tmp_path / "a.tif", padded, tile=(64, 64), photometric="rgb", **BARE)
    assert describe(tmp_path / "a.tif").warnings == ("25% of the slide is black, as scanners pad what they have not scanned.",)


@pytest.mark.parametrize(
    ("name", "options", "mpp", "source"),
    [
        ("a.tif", {"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER", **BARE}, 0.25, "tiff.XResolution"),
        ("a.tif", {"resolution": (50_800, 50_800), "resolutionunit": "INCH", **BARE}, 0.5, "tiff.XResolution"),
        ("a.tif", {"resolution": (4, 4), "imagej": True, "metadata": {"unit": "um"}}, 0.25, "imagej.unit"),
        ("a.ome.tif", {"metadata": {"PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm"}}, 0.25, "ome.PhysicalSize"),
        ("a.ome.tif", {"metadata": {"PhysicalSizeX": 0.0005, "PhysicalSizeXUnit": "mm"}}, 0.5, "ome.PhysicalSize"),
        ("a.ome.tif", {"metadata": {"PhysicalSizeX": 3, "PhysicalSizeXUnit": "pixel"}}, None, ""),
        ("a.tif", {"description": "Aperio |AppMag = 20|MPP = 0.4990", **BARE}, 0.499, "aperio.MPP"),
        ("a.tif", {**BARE}, None, ""),
    ],
)
@pytest.mark.parametrize("layout", [{"rowsperstrip": 16}, {"tile": (64, 64)}])
def test_microns_come_with_the_tag_they_are_from(
    tmp_path: Path, picture: Bytes, name: str, options: dict[str, Any], mpp: float | None, source: str, layout: dict[str, Any]
) -> None:
    if "imagej" in options or (source == "aperio.MPP" and "tile" in layout):
        layout = {}  # ImageJ knows no tiles, and tiled Aperio files are for OpenSlide
    tifffile.imwrite(tmp_path / name, picture, photometric="rgb", **layout, **options)
    found = describe(tmp_path / name)
    assert found.mpp == (None if mpp is None else pytest.approx(mpp))
    assert found.mpp_from == source
    assert found.warnings == ()


def test_implausible_and_unequal_microns_are_told(tmp_path: Path, picture: Bytes) -> None:
    metadata = {"PhysicalSizeX": 0.0025, "PhysicalSizeXUnit": "µm"}
    tifffile.imwrite(tmp_path / "a.ome.tif", picture, photometric="rgb", metadata=metadata, resolution=(20_000, 20_000), resolutionunit=3)
    found = describe(tmp_path / "a.ome.tif")
    assert (found.mpp, found.mpp_from) == (0.5, "tiff.XResolution")
    assert "0.0025" in found.warnings[0]
    assert "not used" in found.warnings[0]
    tifffile.imwrite(tmp_path / "b.tif", picture, photometric="rgb", resolution=(40_000, 10_000), resolutionunit=3)
    found = describe(tmp_path / "b.tif")
    assert found.mpp == pytest.approx(0.5)
    assert "not square: 0.25 by 1" in found.warnings[0]


# ---- a scanner's own


def aperio(path: Path, specimen: Bytes) -> None:
    """An SVS as Aperio's scanners write it, with the images that OpenSlide calls associated."""
    head = "Aperio Image Library v11.2.1"
    pages: list[tuple[Bytes, str, int]] = [
        (specimen[::4, ::4], f"{head} thumbnail", 0),
        (np.full((90, 120, 3), 11, np.uint8), f"{head}\r\nlabel 120x90", 1),
        (np.full((60, 200, 3), 99, np.uint8), f"{head}\r\nmacro 200x60", 9),
    ]
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            specimen, tile=(240, 240), photometric="rgb", compression="jpeg", description=f"{head}|AppMag = 20|MPP = 0.4990", metadata=None
        )
        for pixels_, description, kind in pages:
            tiff.write(
                pixels_,
                photometric="rgb",
                compression="jpeg" if kind != 1 else "lzw",
                rowsperstrip=16,
                subfiletype=kind,
                description=description,
                metadata=None,
            )


def test_label_and_macro_images_are_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specimen = np.full((700, 900, 3), 230, np.uint8)
    aperio(tmp_path / "a.svs", specimen)
    with openslide.OpenSlide(str(tmp_path / "a.svs")) as slide:
        assert {"label", "macro"} <= set(slide.associated_images)

    def refuse(_: object) -> None:
        raise AssertionError("an associated image was asked for")

    monkeypatch.setattr(openslide.OpenSlide, "associated_images", property(refuse))
    found = describe(tmp_path / "a.svs")
    assert [(level.width, level.height) for level in found.levels] == [(900, 700)]
    assert (found.mpp, found.mpp_from, found.format) == (pytest.approx(0.499), "openslide.mpp-x", "aperio")
    reader = open_slide(tmp_path / "a.svs")
    assert isinstance(reader, OpenSlideReader)
    assert np.abs(reader.thumbnail(300).astype(int) - 230).max() <= 3

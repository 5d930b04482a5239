from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from scheduling.errors import UnreadableSlide
from scheduling.slides.reading.pyramid import thumbnail_jpeg, tile_jpeg
from scheduling.slides.reading.reader import cached_reader, describe, fingerprint, open_slide
from scheduling.slides.synthetic.slide import write_sample


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "sample.tif"
    write_sample(path, width=1500, height=1100, seed=3)
    return path


@pytest.fixture
def picture() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (130, 170, 3), np.uint8)


def test_the_sample_is_a_pyramid_with_microns_per_pixel(sample: Path) -> None:
    info = describe(sample)
    assert (info.width, info.height, info.mpp) == (1500, 1100, 0.5)
    assert [round(level.downsample) for level in info.levels] == [1, 4, 16]
    assert info.fingerprint == fingerprint(sample)


def test_reading_across_the_border_gives_white_outside(sample: Path) -> None:
    reader = open_slide(sample)
    window = reader.read(-20, -30, 100, 90)
    assert window.shape == (90, 100, 3)
    assert (window[:30] == 255).all()
    assert (window[:, :20] == 255).all()
    assert (window[30:, 20:] == reader.read(0, 0, 80, 60)).all()


def test_a_thumbnail_made_in_bands_looks_like_the_lowest_level(sample: Path) -> None:
    reader = open_slide(sample)
    thumbnail = reader.thumbnail(90)
    assert thumbnail.shape == (66, 90, 3)
    small = cv2.resize(reader.read(0, 0, 1500, 1100), (90, 66), interpolation=cv2.INTER_AREA)
    assert np.abs(thumbnail.astype(int) - small).mean() < 8  # Levels round the size; a shift of a quarter pixel shows at edges.


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (64, 64), "photometric": "rgb", "compression": "zlib"},
        {"tile": (64, 64), "photometric": "rgb", "compression": "zlib", "ome": True},
        {"rowsperstrip": 16, "photometric": "rgb", "compression": "lzw"},
        {"photometric": "rgb"},
    ],
)
def test_tiffs_of_every_layout_give_their_pixels(tmp_path: Path, picture: npt.NDArray[np.uint8], options: dict[str, object]) -> None:
    path = tmp_path / ("a.ome.tif" if options.pop("ome", False) else "a.tif")
    tifffile.imwrite(path, picture, resolution=(20_000, 20_000), resolutionunit="CENTIMETER", **options)  # type: ignore[arg-type]
    reader = open_slide(path)
    assert (reader.read(50, 60, 100, 65) == picture[60:125, 50:150]).all()
    assert reader.mpp == pytest.approx(0.5)


def test_an_ome_tiff_with_separate_channels_is_read_as_rgb(tmp_path: Path, picture: npt.NDArray[np.uint8]) -> None:
    path = tmp_path / "planes.ome.tif"
    metadata = {"axes": "CYX", "PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.25, "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(path, np.moveaxis(picture, 2, 0), photometric="minisblack", metadata=metadata)
    reader = open_slide(path)
    assert (reader.read(0, 0, 170, 130) == picture).all()
    assert reader.mpp == pytest.approx(0.25)


def test_transparent_pixels_come_out_white(tmp_path: Path, picture: npt.NDArray[np.uint8]) -> None:
    rgba = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
    rgba[:50, :, 3] = 0
    tifffile.imwrite(tmp_path / "a.tif", rgba, photometric="rgb", extrasamples=["unassalpha"])
    pixels = open_slide(tmp_path / "a.tif").read(0, 0, 170, 130)
    assert (pixels[:50] == 255).all()
    assert (pixels[50:] == picture[50:]).all()


@pytest.mark.parametrize("mpp", [0.0025, 80.0])
def test_implausible_microns_per_pixel_are_taken_for_unknown(tmp_path: Path, picture: npt.NDArray[np.uint8], mpp: float) -> None:
    tifffile.imwrite(tmp_path / "a.tif", picture, photometric="rgb", resolution=(1e4 / mpp, 1e4 / mpp), resolutionunit="CENTIMETER")
    assert open_slide(tmp_path / "a.tif").mpp is None


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty"), (b"just text\n" * 50, "no slide format"), (b"II*\0" + b"\xff" * 400, ""), (b"MM\0*\0\0", "")]
)
def test_what_is_no_slide_is_refused_with_a_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "x.svs").write_bytes(content)
    with pytest.raises(UnreadableSlide) as raised:
        describe(tmp_path / "x.svs")
    assert reason in raised.value.message


@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.95, 0.999])
def test_a_truncated_slide_is_refused(tmp_path: Path, sample: Path, part: float) -> None:
    data = sample.read_bytes()
    (tmp_path / "cut.tif").write_bytes(data[: int(len(data) * part)])
    with pytest.raises(UnreadableSlide):
        open_slide(tmp_path / "cut.tif")


def test_a_damaged_slide_raises_nothing_but_unreadable(tmp_path: Path, picture: npt.NDArray[np.uint8]) -> None:
    tifffile.imwrite(tmp_path / "good.tif", picture, tile=(64, 64), photometric="rgb", compression="jpeg")
    good, random = (tmp_path / "good.tif").read_bytes(), np.random.default_rng(1)
    for _ in range(60):
        data = bytearray(good)
        for at in random.integers(0, 600, 4):
            data[at] = random.integers(0, 256)
        (tmp_path / "bad.tif").write_bytes(data)
        try:
            open_slide(tmp_path / "bad.tif").thumbnail(64)
        except UnreadableSlide as error:
            assert error.message


def test_a_fluorescence_image_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "f.tif", np.zeros((5, 64, 64), np.float32))
    with pytest.raises(UnreadableSlide, match="brightfield"):
        open_slide(tmp_path / "f.tif")


def test_the_fingerprint_follows_the_content_not_the_name(tmp_path: Path, sample: Path) -> None:
    (tmp_path / "copy.tif").write_bytes(sample.read_bytes())
    (tmp_path / "other.tif").write_bytes(sample.read_bytes()[:-1] + b"x")
    assert fingerprint(tmp_path / "copy.tif") == fingerprint(sample) != fingerprint(tmp_path / "other.tif")


def test_one_cached_reader_serves_many_threads(sample: Path) -> None:
    content = fingerprint(sample)
    whole = open_slide(sample).read(0, 0, 1500, 1100)

    def matches(index: int) -> bool:
        x, y = 37 * index % 1300, 53 * index % 900
        return bool((cached_reader(sample, content).read(x, y, 150, 150) == whole[y : y + 150, x : x + 150]).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(matches, range(64)))
    assert cached_reader(sample, content) is cached_reader(sample, content)


def test_tiles_are_cut_at_the_border_and_refused_beyond_it(sample: Path) -> None:
    reader = open_slide(sample)
    for level, column, row, shape in ((0, 0, 0, (512, 512)), (0, 2, 2, (76, 476)), (1, 0, 0, (275, 375)), (2, 0, 0, (69, 94))):
        tile = cv2.imdecode(np.frombuffer(tile_jpeg(reader, level, column, row), np.uint8), cv2.IMREAD_COLOR)
        assert tile is not None
        assert tile.shape[:2] == shape
    for place in ((0, 3, 0), (0, 0, 3), (3, 0, 0), (-1, 0, 0), (0, -1, 0)):
        with pytest.raises(LookupError):
            tile_jpeg(reader, *place)
    assert thumbnail_jpeg(reader, 100).startswith(b"\xff\xd8")


def test_ome_metadata_that_names_another_file_opens_none(tmp_path: Path, picture: npt.NDArray[np.uint8]) -> None:
    """A two-file OME series: the first file's metadata names the second, which belongs to somebody else."""
    secret, upload = tmp_path / "secret.ome.tif", tmp_path / "upload.ome.tif"
    tifffile.imwrite(secret, np.zeros_like(picture), photometric="rgb")
    metadata = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="170" SizeY="130" SizeC="3" SizeZ="2" SizeT="1">'
        '<Channel ID="Channel:0" SamplesPerPixel="3"/>'
        '<TiffData IFD="0" FirstZ="0" PlaneCount="1"/>'
        f'<TiffData IFD="0" FirstZ="1" PlaneCount="1"><UUID FileName="{secret.name}">urn:uuid:1</UUID></TiffData>'
        "</Pixels></Image></OME>"
    )
    tifffile.imwrite(upload, picture, photometric="rgb", description=metadata, metadata=None)
    seen: list[str] = []
    original = tifffile.TiffFile.__init__

    def watched(self: tifffile.TiffFile, file: object, *args: object, **kwargs: object) -> None:
        seen.append(str(file))
        original(self, file, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tifffile.TiffFile, "__init__", watched)
        with contextlib.suppress(UnreadableSlide):
            open_slide(upload).close()
    assert seen
    assert not [file for file in seen if secret.name in file]


def test_a_refusal_names_the_file_and_not_where_this_server_keeps_it(tmp_path: Path) -> None:
    missing = tmp_path / ("x" * 300)
    with pytest.raises(UnreadableSlide, match=r"x{300}") as raised:
        open_slide(missing)
    assert str(tmp_path) not in raised.value.message

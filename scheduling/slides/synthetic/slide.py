"""A synthetic H&E slide with known nuclei: the sample of a first start and the ground truth of the tests.

Tissue islands with glands, fibrous stroma and clusters of lymphocytes are laid out at low resolution; nuclei are ellipses
at recorded places. Colours come from stain densities, as in a real stain. The same seed gives the same pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import tifffile

from scheduling.slides.reading.interface import RGB
from scheduling.slides.synthetic.planting import Nuclei, plant
from scheduling.slides.synthetic.terrain import COARSE, Part, Terrain, textures

cv2.setNumThreads(1)

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

SAMPLE_WIDTH, SAMPLE_HEIGHT, SAMPLE_SEED = 8000, 6000, 20
MPP = 0.5
_TILE = 256
_STRIP = 512
_PART = 256
_GLASS = (244.0, 242.0, 245.0)
_HEMATOXYLIN = (0.65, 0.70, 0.29)
_EOSIN = (0.2159, 0.8012, 0.5581)
#: Stain density of one level of the 8-bit density maps.
_STEP = 1.6 / 255
_QUALITY = 87


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """The nuclei of a synthetic slide."""

    width: int
    height: int
    mpp: float
    nuclei: Nuclei

    def __len__(self) -> int:
        return len(self.nuclei)

    def labels(self, left: int, top: int, width: int, height: int) -> npt.NDArray[np.int32]:
        """int32 (height, width): number (from 1, in the order of `nuclei`) of the nucleus each pixel centre of a window lies in.

        Where two nuclei overlap a pixel belongs to the one whose centre is nearer in units of its axes.
        """
        out = np.zeros((height, width), np.int32)
        nearest = np.full((height, width), np.inf, np.float32)
        n = self.nuclei
        reach = n.major + 1
        inside = (n.x + reach > left) & (n.x - reach < left + width) & (n.y + reach > top) & (n.y - reach < top + height)
        for index in np.flatnonzero(inside):
            _stamp(out, nearest, int(index) + 1, n.moved(int(index), -left, -top))
        return out


def write_sample(
    path: Path, *, width: int = SAMPLE_WIDTH, height: int = SAMPLE_HEIGHT, seed: int = SAMPLE_SEED, nuclei: Nuclei | None = None
) -> GroundTruth:
    """Write a tiled JPEG pyramid (levels 1, 4, 16) at 0.5 microns per pixel; appears complete or not at all.

    `nuclei` replaces the ones that the seed would plant.
    """
    random = np.random.default_rng(seed)
    terrain = Terrain.grown(width, height, random)
    planted = plant(terrain, random) if nuclei is None else nuclei
    temporary = path.with_name(f".{path.name}.part")
    try:
        _write_pyramid(temporary, _Painter(terrain, planted, random))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return GroundTruth(width=width, height=height, mpp=MPP, nuclei=planted)


def _stamp(out: npt.NDArray[np.int32], nearest: Floats, number: int, place: tuple[float, float, float, float, float]) -> None:
    x, y, major, minor, angle = place
    left, right = max(0, int(x - major) - 1), min(out.shape[1], int(x + major) + 2)
    top, bottom = max(0, int(y - major) - 1), min(out.shape[0], int(y + major) + 2)
    dx, dy = np.arange(left, right) + 0.5 - x, (np.arange(top, bottom) + 0.5 - y)[:, None]
    along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    distance = (along / major) ** 2 + (across / minor) ** 2
    window = (slice(top, bottom), slice(left, right))
    wins = (distance <= 1) & (distance < nearest[window])
    out[window][wins] = number
    nearest[window][wins] = distance[wins]


class _Painter:
    """Paints strips of the slide from top to bottom."""

    def __init__(self, terrain: Terrain, nuclei: Nuclei, random: np.random.Generator) -> None:
        self.terrain = terrain
        self._textures = textures(random)
        self._nuclei = _nuclear_map(terrain.width, terrain.height, nuclei, random)
        self._transmission = _transmission_tables()

    def strip(self, top: int, height: int) -> RGB:
        """uint8 (height, slide width, 3)."""
        nuclear = cv2.GaussianBlur(self._nuclei[top : top + height], (0, 0), 0.8).astype(np.float32)
        painted = np.empty((height, self.terrain.width, 3), np.uint8)
        # Part by part, since what is worked on then stays in the processor's cache, and most of a slide is glass.
        for left in range(0, self.terrain.width, _PART):
            part = Part(left, top, min(left + _PART, self.terrain.width), top + height)
            painted[:, part.left : part.right] = self._part(part, nuclear[:, part.left : part.right])
        return painted

    def _part(self, part: Part, nuclear: Floats) -> RGB:
        tissue = self.terrain.cut("tissue", part)
        is_glass = not (tissue.any() or nuclear.any())
        hematoxylin, eosin = (np.zeros(tissue.shape, np.uint8),) * 2 if is_glass else self._stained(part, nuclear, tissue)
        return self._coloured(hematoxylin, eosin, self._textures.cut("noise", part))

    def _stained(self, part: Part, nuclear: Floats, tissue: Floats) -> tuple[Bytes, Bytes]:
        """Density levels of hematoxylin and eosin."""
        texture = self._textures
        chromatin, haze = texture.cut("grain", part), texture.cut("cloud", part)
        stroma, cytoplasm = self.terrain.cut("stroma", part), self.terrain.cut("cytoplasm", part)
        fibres = texture.fibres(self.terrain, part)
        covered = 1 - np.minimum(nuclear * (1 / 130), 0.62)
        eosin = covered * tissue * (stroma * np.maximum(40 + 15 * fibres + 9 * haze, 1) + cytoplasm * (46 + 8 * haze + 6 * chromatin))
        hematoxylin = nuclear * (1 + 0.16 * chromatin) + covered * tissue * (
            stroma * (5 + 3 * haze) + cytoplasm * (22 + 6 * haze + 3 * chromatin)
        )
        return _levels(hematoxylin), _levels(eosin)

    def _coloured(self, hematoxylin: Bytes, eosin: Bytes, noise: Floats) -> RGB:
        channels = []
        for channel in range(3):
            blue, pink = (cv2.LUT(levels, self._transmission[stain][channel]) for stain, levels in enumerate((hematoxylin, eosin)))
            channels.append(cv2.convertScaleAbs(cv2.add(cv2.multiply(blue, pink), noise)))
        return np.asarray(cv2.merge(channels), np.uint8)


def _levels(density: Floats) -> Bytes:
    return np.asarray(cv2.convertScaleAbs(np.maximum(density, 0)), np.uint8)


def _transmission_tables() -> list[list[Floats]]:
    """For each stain and channel, float32 (256,): light let through by a density level; the glass is in the first stain's."""
    levels = np.arange(256) * _STEP
    through = [[10 ** (-levels * density) for density in stain] for stain in (_HEMATOXYLIN, _EOSIN)]
    through[0] = [table * glass for table, glass in zip(through[0], _GLASS, strict=True)]
    return [[table.astype(np.float32) for table in stain] for stain in through]


def _nuclear_map(width: int, height: int, nuclei: Nuclei, random: np.random.Generator) -> Bytes:
    """uint8 (height, width): hematoxylin levels of the nuclei alone, with paler centres and nucleoli where a kind has them."""
    canvas = np.zeros((height, width), np.uint8)
    jitter = random.uniform(-1, 1, (len(nuclei), 2))
    for index in range(len(nuclei)):
        x, y, major, minor, angle = nuclei.moved(index, -0.5, -0.5)
        level, paleness = float(nuclei.level[index]), float(nuclei.paleness[index])
        _ellipse(canvas, x, y, major, minor, angle, level)
        if paleness > 0:
            _ellipse(canvas, x, y, major * 0.72, minor * 0.68, angle, level * (1 - paleness))
            dx, dy = jitter[index] * minor * 0.35
            _ellipse(canvas, x + dx, y + dy, 1.6, 1.4, 0.0, level)
    return canvas


def _ellipse(canvas: Bytes, x: float, y: float, major: float, minor: float, angle: float, level: float) -> None:
    # OpenCV's smooth outline is drawn around what it fills: half a pixel more on each side.
    center, axes = (round(x * 16), round(y * 16)), (round((major - 0.5) * 16), round((minor - 0.5) * 16))
    cv2.ellipse(canvas, center, axes, float(np.degrees(angle)), 0, 360, float(level), -1, cv2.LINE_AA, 4)


def _write_pyramid(path: Path, painter: _Painter) -> None:
    terrain = painter.terrain
    reduced: list[RGB] = []
    with tifffile.TiffWriter(path, bigtiff=False) as tiff:
        _write_level(tiff, _painted_tiles(painter, reduced), terrain.width, terrain.height, MPP, subfiletype=0)
        # The strips divide by 4 and by 16, so that each level is the exact area mean of the one above.
        quarter = np.concatenate(reduced)
        for step, level in ((4, quarter), (16, _shrunk(quarter, 4))):
            _write_level(tiff, _tiles(level), level.shape[1], level.shape[0], MPP * step, subfiletype=1)


def _write_level(tiff: tifffile.TiffWriter, tiles: Iterator[RGB], width: int, height: int, mpp: float, *, subfiletype: int) -> None:
    tiff.write(
        tiles,
        shape=(height, width, 3),
        dtype=np.uint8,
        tile=(_TILE, _TILE),
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": _QUALITY},
        subfiletype=subfiletype,
        resolution=(1e4 / mpp, 1e4 / mpp),
        resolutionunit="CENTIMETER",
        maxworkers=1,
        metadata=None,
        software=False,
    )


def _painted_tiles(painter: _Painter, reduced: list[RGB]) -> Iterator[RGB]:
    """The tiles of full resolution, row by row; the strips at a quarter of it are left in `reduced`."""
    for top in range(0, painter.terrain.height, _STRIP):
        strip = painter.strip(top, min(_STRIP, painter.terrain.height - top))
        reduced.append(_shrunk(strip, 4))
        yield from _tiles(strip)


def _tiles(image: RGB) -> Iterator[RGB]:
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % _TILE), (0, -width % _TILE), (0, 0)), mode="edge")
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            yield np.ascontiguousarray(padded[top : top + _TILE, left : left + _TILE])


def _shrunk(image: RGB, step: int) -> RGB:
    size = (-(-image.shape[1] // step), -(-image.shape[0] // step))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


assert (_STRIP % COARSE, _PART % COARSE) == (0, 0)

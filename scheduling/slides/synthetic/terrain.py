"""The lie of a synthetic slide at low resolution (where tissue, glands and fibres are) and the textures laid over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

#: Full-resolution pixels in a pixel of the low-resolution maps.
COARSE = 4
_TEXTURE = 1024
_DIRECTIONS = 4


class Part(NamedTuple):
    """A half-open rectangle of the slide, in pixels of full resolution."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Of a row."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """In rows."""
        return self.bottom - self.top


@dataclass(frozen=True, kw_only=True)
class Gland:
    """A ring of epithelium around a lumen; pixels of full resolution."""

    x: float
    y: float
    radius: float
    lumen: float
    squeeze: float
    angle: float


@dataclass(frozen=True, kw_only=True)
class Terrain:
    """Low-resolution maps, float32 0 to 1, with pixels of COARSE full-resolution pixels."""

    width: int
    height: int
    maps: dict[str, Floats]
    glands: tuple[Gland, ...]
    #: Centres and radii of clusters of lymphocytes, full-resolution pixels.
    clusters: tuple[tuple[float, float, float], ...]

    @classmethod
    def grown(cls, width: int, height: int, random: np.random.Generator) -> Terrain:
        """Islands of tissue, glands in a part of them, clusters beside the glands."""
        shape = (-(-height // COARSE), -(-width // COARSE))
        tissue = _islands(shape, random)
        glands = _glands(tissue, smooth_noise(shape, 150, random), random)
        epithelium, lumen = _drawn(shape, glands, random)
        clefts = np.clip((smooth_noise(shape, 9, random) + 0.6 * smooth_noise(shape, 40, random) - 1.75) * 2.5, 0, 1)
        maps = {
            "tissue": tissue * (1 - clefts * (1 - epithelium)),
            "stroma": (1 - epithelium) * (1 - lumen) * (0.8 + 0.25 * np.clip(smooth_noise(shape, 60, random), -1.5, 1.5)),
            "cytoplasm": epithelium,
            **_directions(shape, random),
            # How far (full-resolution pixels) the fibres are bent from straight.
            "bend_x": 30 * smooth_noise(shape, 45, random) + 7 * smooth_noise(shape, 14, random),
            "bend_y": 30 * smooth_noise(shape, 45, random) + 7 * smooth_noise(shape, 14, random),
        }
        maps = {name: np.ascontiguousarray(values, np.float32) for name, values in maps.items()}
        return cls(width=width, height=height, maps=maps, glands=tuple(glands), clusters=tuple(_clusters(tissue, epithelium, random)))

    def at(self, name: str, x: float, y: float) -> float:
        """Value of a map at a full-resolution place."""
        values = self.maps[name]
        row, column = int(y) // COARSE, int(x) // COARSE
        return float(values[row, column]) if 0 <= row < values.shape[0] and 0 <= column < values.shape[1] else 0.0

    def cut(self, name: str, part: Part) -> Floats:
        """float32 (height, width): a part of a map at full resolution; its left and top divide by COARSE."""
        values = self.maps[name]
        top, left, bottom, right = part.top // COARSE, part.left // COARSE, -(-part.bottom // COARSE), -(-part.right // COARSE)
        # A row and a column more on each side, so that parts meet without a line.
        above, before = min(1, top), min(1, left)
        values = values[top - above : bottom + 1, left - before : right + 1]
        scaled = cv2.resize(values, (values.shape[1] * COARSE, values.shape[0] * COARSE), interpolation=cv2.INTER_LINEAR)
        above, before = above * COARSE, before * COARSE
        return np.asarray(scaled[above : above + part.height, before : before + part.width], np.float32)


class Textures:
    """Periodic textures of zero mean and unit deviation (noise: a few grey levels), cut anywhere."""

    def __init__(self, tiles: dict[str, Floats]) -> None:
        self._tiles = tiles

    def cut(self, name: str, part: Part) -> Floats:
        """float32 (height, width) of a texture, the same whatever the part it is cut for."""
        tile = self._tiles[name]
        rows = tile[np.arange(part.top, part.bottom) % len(tile)]
        before = part.left % tile.shape[1]
        return np.tile(rows, (1, -(-(before + part.width) // tile.shape[1])))[:, before : before + part.width]

    def fibres(self, terrain: Terrain, part: Part) -> Floats:
        """Fibre texture that runs along the terrain's local direction."""
        across, down = (terrain.cut(name, part) for name in ("bend_x", "bend_y"))
        across += np.arange(part.left, part.right, dtype=np.float32)
        down += np.arange(part.top, part.bottom, dtype=np.float32)[:, None]
        # OpenCV wraps coordinates only a little outside of the texture.
        for places in (across, down):
            # The remainder, exact as _TEXTURE is a power of two; np.mod takes four times as long.
            places -= _TEXTURE * np.floor(places * np.float32(1 / _TEXTURE))
        total = np.zeros((part.height, part.width), np.float32)
        for index in range(_DIRECTIONS):
            texture = cv2.remap(self._tiles[f"fibre{index}"], across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
            total += np.asarray(cv2.multiply(terrain.cut(f"direction{index}", part), texture), np.float32)
        return total


def textures(random: np.random.Generator) -> Textures:
    """The textures of one slide."""
    tiles = {f"fibre{i}": _fibre(np.pi * i / _DIRECTIONS, random) for i in range(_DIRECTIONS)}
    tiles["grain"] = _filtered(lambda u, v: np.exp(-((u * 2.2) ** 2 + (v * 2.2) ** 2) / 2), random)
    tiles["cloud"] = _filtered(lambda u, v: np.exp(-((u * 14) ** 2 + (v * 14) ** 2) / 2) + 0.01, random)
    tiles["noise"] = 1.5 * _filtered(lambda u, v: np.exp(-((u * 0.5) ** 2 + (v * 0.5) ** 2) / 2), random)
    return Textures({name: tile.astype(np.float32) for name, tile in tiles.items()})


def smooth_noise(shape: tuple[int, int], scale: float, random: np.random.Generator) -> Floats:
    """Smooth noise of unit deviation whose features are about `scale` pixels wide."""
    small = (max(4, int(shape[0] / scale) + 4), max(4, int(shape[1] / scale) + 4))
    noise = cv2.resize(random.standard_normal(small).astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray((noise - noise.mean()) / max(1e-6, float(noise.std())), np.float32)


def _islands(shape: tuple[int, int], random: np.random.Generator) -> Floats:
    """Two big pieces and a small one; they keep away from the edge of the glass."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    x, y = x / shape[1], y / shape[0]
    field = np.full(shape, -9.0, np.float32)
    for cx, cy, rx, ry, angle in ((0.31, 0.5, 0.24, 0.36, 0.35), (0.74, 0.4, 0.17, 0.29, -0.4), (0.8, 0.86, 0.09, 0.08, 0.2)):
        dx, dy = x - cx - random.uniform(-0.02, 0.02), y - cy
        u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        field = np.maximum(field, 1 - np.sqrt((u / rx) ** 2 + (v / ry) ** 2))
    size = max(shape)
    field += 0.10 * smooth_noise(shape, size / 7, random) + 0.045 * smooth_noise(shape, size / 22, random)
    field += 0.012 * smooth_noise(shape, size / 120, random)
    margin = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y))
    edge = np.clip((field - 0.02) * size / 14, 0, 1) * np.clip((margin - 0.015) * 60, 0, 1)
    return np.asarray(cv2.GaussianBlur(edge.astype(np.float32), (0, 0), 1.5), np.float32)


def _glands(tissue: Floats, patches: Floats, random: np.random.Generator) -> list[Gland]:
    """Glands apart from each other, where the patches are high and tissue is all around."""
    glands: list[Gland] = []
    inner = cv2.erode((tissue > 0.9).astype(np.uint8), np.ones((41, 41), np.uint8))
    places = np.argwhere((inner > 0) & (patches > -0.15))
    for row, column in places[random.permutation(len(places))[: min(4000, len(places))]]:
        radius = float(random.uniform(62, 150))
        x, y = float(column * COARSE), float(row * COARSE)
        if all((x - g.x) ** 2 + (y - g.y) ** 2 > (radius + g.radius + 26) ** 2 for g in glands):
            lumen = radius - float(random.uniform(38, 52))
            glands.append(
                Gland(
                    x=x, y=y, radius=radius, lumen=lumen, squeeze=float(random.uniform(0.68, 0.96)), angle=float(random.uniform(0, np.pi))
                )
            )
    return glands


def _drawn(shape: tuple[int, int], glands: list[Gland], random: np.random.Generator) -> tuple[Floats, Floats]:
    """(epithelium, lumen) maps of the glands, softly bordered."""
    epithelium, lumen = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for gland in glands:
        center, turn = (round(gland.x / COARSE * 16), round(gland.y / COARSE * 16)), float(np.degrees(gland.angle))
        for canvas, radius in ((epithelium, gland.radius + 5), (lumen, gland.lumen - 4)):
            axes = (round(radius / COARSE * 16), round(radius * gland.squeeze / COARSE * 16))
            cv2.ellipse(canvas, center, axes, turn, 0, 360, 1.0, -1, cv2.LINE_8, 4)
    wobble = 0.10 * smooth_noise(shape, 8, random)
    soft = [np.clip((cv2.GaussianBlur(canvas, (0, 0), 1.6) + wobble - 0.5) * 3 + 0.5, 0, 1) for canvas in (epithelium, lumen)]
    lumen = np.asarray(soft[1] * (soft[0] > 0.5), np.float32)
    return np.asarray(soft[0] * (1 - lumen), np.float32), lumen


def _clusters(tissue: Floats, epithelium: Floats, random: np.random.Generator) -> list[tuple[float, float, float]]:
    places = np.argwhere((cv2.erode((tissue > 0.9).astype(np.uint8), np.ones((25, 25), np.uint8)) > 0) & (epithelium < 0.05))
    if not len(places):
        return []
    number = max(1, round(len(places) / 60_000))
    chosen = places[random.integers(0, len(places), number)]
    return [(float(column * COARSE), float(row * COARSE), float(random.uniform(110, 240))) for row, column in chosen]


def _directions(shape: tuple[int, int], random: np.random.Generator) -> dict[str, Floats]:
    """How much each fibre texture counts, by a smoothly turning direction; also the direction itself."""
    angle = (smooth_noise(shape, 110, random) * 0.9) % np.pi
    weights = {}
    for index in range(_DIRECTIONS):
        away = np.abs((angle - np.pi * index / _DIRECTIONS + np.pi / 2) % np.pi - np.pi / 2)
        weights[f"direction{index}"] = np.clip(1 - away / (np.pi / _DIRECTIONS), 0, 1)
    return {**weights, "angle": angle}


def _fibre(angle: float, random: np.random.Generator) -> Floats:
    def window(u: Floats, v: Floats) -> Floats:
        along, across = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
        fine = np.exp(-((along * 17) ** 2 + (across * 1.9) ** 2) / 2)
        return np.asarray(fine + 3 * np.exp(-((along * 42) ** 2 + (across * 6) ** 2) / 2))

    return _filtered(window, random)


def _filtered(window: object, random: np.random.Generator) -> Floats:
    """White noise with the given spectrum (a function of angular frequencies in radians for each pixel); periodic."""
    assert callable(window)
    frequencies = (np.fft.fftfreq(_TEXTURE) * 2 * np.pi).astype(np.float32)
    v, u = np.meshgrid(frequencies, frequencies[: _TEXTURE // 2 + 1], indexing="ij")
    noise = np.fft.irfft2(np.fft.rfft2(random.standard_normal((_TEXTURE, _TEXTURE))) * window(u, v), s=(_TEXTURE, _TEXTURE))
    return np.asarray((noise - noise.mean()) / noise.std(), np.float32)

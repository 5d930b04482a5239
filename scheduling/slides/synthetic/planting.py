"""Nuclei planted on a synthetic slide: epithelium around glands, spindles along fibres, lymphocytes in clusters and apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scheduling.slides.synthetic.terrain import Terrain

Doubles = npt.NDArray[np.float64]

_CELL = 32
#: How much nearer than touching two nuclei may come, as a part of the sum of their reaches.
_TOUCH = 0.94
_STROMA_SPACING_PX = 46


@dataclass(frozen=True, kw_only=True)
class Nuclei:
    """Ellipses, one entry each: centres and semi-axes in full-resolution pixels, angle of the major axis in radians.

    Coordinates are of pixel corners: the centre of the first pixel is (0.5, 0.5).
    """

    x: Doubles
    y: Doubles
    major: Doubles
    minor: Doubles
    angle: Doubles
    #: Hematoxylin level (0 to 255 of the painter's density scale) and how much paler the inside is (0 to 1).
    level: Doubles
    paleness: Doubles

    def __len__(self) -> int:
        return len(self.x)

    def moved(self, index: int, dx: float, dy: float) -> tuple[float, float, float, float, float]:
        """(x, y, major, minor, angle) of one nucleus, shifted."""
        x, y, major, minor, angle = (float(values[index]) for values in (self.x, self.y, self.major, self.minor, self.angle))
        return x + dx, y + dy, major, minor, angle

    @classmethod
    def of_rows(cls, rows: list[tuple[float, ...]]) -> Nuclei:
        """From rows of (x, y, major, minor, angle, level, paleness)."""
        columns = np.array(rows, np.float64).reshape(-1, 7).T
        return cls(**dict(zip(("x", "y", "major", "minor", "angle", "level", "paleness"), columns, strict=True)))


def plant(terrain: Terrain, random: np.random.Generator) -> Nuclei:
    """The nuclei of a terrain; no two overlap by more than a touch."""
    ground = _Ground(terrain)
    _plant_glands(ground, random)
    _plant_clusters(ground, random)
    _plant_stroma(ground, random)
    return Nuclei.of_rows(ground.rows)


class _Ground:
    """What is planted so far, findable by place."""

    def __init__(self, terrain: Terrain) -> None:
        self.terrain = terrain
        self.rows: list[tuple[float, ...]] = []
        self._squares: dict[tuple[int, int], list[int]] = {}

    def offer(self, row: tuple[float, ...], touch: float) -> bool:
        """Plant a nucleus unless it would come nearer to another than `touch` times touching, or leaves the tissue."""
        x, y, major = row[:3]
        if self.terrain.at("tissue", x, y) < 0.8 or not (
            major < x < self.terrain.width - major and major < y < self.terrain.height - major
        ):
            return False
        column, line = int(x) // _CELL, int(y) // _CELL
        near = (index for i in (-1, 0, 1) for j in (-1, 0, 1) for index in self._squares.get((column + i, line + j), ()))
        if any(_too_near(row, self.rows[index], touch) for index in near):
            return False
        self._squares.setdefault((column, line), []).append(len(self.rows))
        self.rows.append(row)
        return True


def _too_near(one: tuple[float, ...], other: tuple[float, ...], touch: float) -> bool:
    dx, dy = other[0] - one[0], other[1] - one[1]
    distance = (dx * dx + dy * dy) ** 0.5
    if distance > one[2] + other[2]:
        return False
    direction = float(np.arctan2(dy, dx))
    return bool(distance < touch * (_reach(one, direction) + _reach(other, direction)))


def _reach(row: tuple[float, ...], direction: float) -> float:
    """Half the width of an ellipse's shadow along a direction: shadows apart means ellipses apart."""
    turn = direction - row[4]
    return float(((row[2] * np.cos(turn)) ** 2 + (row[3] * np.sin(turn)) ** 2) ** 0.5)


def _plant_glands(ground: _Ground, random: np.random.Generator) -> None:
    for gland in ground.terrain.glands:
        # Nuclei sit at the base of the epithelium, some in a second row.
        for inset, part in ((12.0, 1.0), (27.0, 0.35)):
            ring = gland.radius - inset
            number = int(2 * np.pi * ring * (1 + gland.squeeze) / 2 / random.uniform(16.5, 19.5))
            for step in range(number):
                if random.random() > part:
                    continue
                around = 2 * np.pi * (step + random.uniform(-0.18, 0.18)) / number
                u, v = (ring + random.normal(0, 1.6)) * np.cos(around), (ring + random.normal(0, 1.6)) * gland.squeeze * np.sin(around)
                x = gland.x + u * np.cos(gland.angle) - v * np.sin(gland.angle)
                y = gland.y + u * np.sin(gland.angle) + v * np.cos(gland.angle)
                outward = float(np.arctan2(v / gland.squeeze, u)) + gland.angle + random.normal(0, 0.15)
                row = (
                    x,
                    y,
                    random.uniform(7.6, 9.8),
                    random.uniform(5.4, 6.9),
                    outward,
                    random.uniform(98, 128),
                    random.uniform(0.14, 0.26),
                )
                ground.offer(row, _TOUCH if random.random() < 0.25 else 1.08)


def _plant_clusters(ground: _Ground, random: np.random.Generator) -> None:
    for x, y, radius in ground.terrain.clusters:
        for _ in range(int((radius / 7.5) ** 2)):
            away, around = abs(random.normal(0, radius * 0.55)), random.uniform(0, 2 * np.pi)
            place = (x + away * float(np.cos(around)), y + away * float(np.sin(around)))
            if ground.terrain.at("stroma", *place) > 0.3:
                ground.offer(_lymphocyte(*place, random), _TOUCH if random.random() < 0.1 else 1.12)


def _plant_stroma(ground: _Ground, random: np.random.Generator) -> None:
    terrain = ground.terrain
    for _ in range(terrain.width * terrain.height // _STROMA_SPACING_PX**2):
        x, y = float(random.uniform(0, terrain.width)), float(random.uniform(0, terrain.height))
        if terrain.at("stroma", x, y) < 0.45:
            continue
        if random.random() < 0.22:
            ground.offer(_lymphocyte(x, y, random), 1.15)
            continue
        angle = terrain.at("angle", x, y) + float(random.normal(0, 0.25))
        row = (x, y, random.uniform(8.5, 13.5), random.uniform(3.2, 4.6), angle, random.uniform(105, 150), random.uniform(0.0, 0.1))
        ground.offer(row, 1.15)


def _lymphocyte(x: float, y: float, random: np.random.Generator) -> tuple[float, ...]:
    radius = float(random.uniform(5.4, 6.8))
    return (x, y, radius, radius * float(random.uniform(0.86, 1)), float(random.uniform(0, np.pi)), float(random.uniform(150, 190)), 0.0)

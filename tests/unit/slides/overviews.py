"""Painted overviews of slides at 8 microns per pixel, with the hard things that lie on real ones, and what is truly tissue."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import shapely

from scheduling.slides.reading.interface import RGB
from scheduling.slides.tissue.mask import TissueMask
from scheduling.slides.tissue.outlines import tissue_polygons

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Color = tuple[int, int, int]

#: Full-resolution pixels in a pixel, at 0.5 microns each.
DOWNSAMPLE, MPP = 16, 0.5
GLASS: Color = (243, 242, 244)
_HEMATOXYLIN, _EOSIN = np.array((0.65, 0.70, 0.29)), np.array((0.2159, 0.8012, 0.5581))
PENS: dict[str, Color] = {
    "black": (30, 30, 35),
    "blue": (30, 60, 170),
    "dark blue": (25, 30, 110),
    "cyan": (40, 170, 210),
    "green": (20, 130, 60),
    "red": (210, 25, 40),
    "orange": (235, 110, 20),
}


def empty(height: int = 360, width: int = 520, color: Color = GLASS) -> Floats:
    """Nothing but glass."""
    return np.ones((height, width, 3)) * np.asarray(color, float)


def ellipse(height: int, width: int, x: float, y: float, radius_x: float, radius_y: float) -> Flags:
    """A smooth piece."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.asarray(((columns + 0.5 - x) / radius_x) ** 2 + ((rows + 0.5 - y) / radius_y) ** 2 <= 1)


def two_pieces(height: int = 360, width: int = 520) -> Flags:
    """The usual tissue: two pieces of 2.4 and 1.2 mm."""
    return ellipse(height, width, 170, 190, 110, 130) | ellipse(height, width, 380, 200, 70, 110)


def stained(image: Floats, tissue: Flags, seed: int = 1, strength: float = 1.0) -> Floats:
    """The image with H&E stained, textured tissue on it; its border is as soft as a lens makes it."""
    random = np.random.default_rng(seed)
    noise = [_clouds(tissue.shape, scale, random) for scale in (6, 30, 3, 25)]
    eosin = np.clip(0.24 + 0.05 * noise[0] + 0.05 * noise[1], 0.06, 1)
    hematoxylin = np.clip(0.10 + 0.06 * noise[2] + 0.06 * noise[3], 0, 1)
    density = eosin[..., None] * _EOSIN + hematoxylin[..., None] * _HEMATOXYLIN
    soft = cv2.GaussianBlur(tissue.astype(np.float32), (0, 0), 0.7)[..., None]
    return np.asarray(image * 10 ** (-strength * density * soft))


def dyed(image: Floats, tissue: Flags, dye: tuple[float, float, float], density: float = 0.35, seed: int = 1) -> Floats:
    """The image with textured tissue in one dye of these optical densities (R, G, B)."""
    random = np.random.default_rng(seed)
    amount = np.clip(density * (1 + 0.25 * _clouds(tissue.shape, 6, random) + 0.25 * _clouds(tissue.shape, 3, random)), 0.02, 1)
    return np.asarray(image * 10 ** -((amount * tissue)[..., None] * np.array(dye)))


def marked(image: Floats, points: list[tuple[int, int]], color: Color, width: int = 50, seed: int = 1) -> tuple[Floats, Flags]:
    """(the image with a stroke of marker through `points`, where its core is): dye over what is there, streaky, with soft edges."""
    core = np.zeros(image.shape[:2], np.float32)
    cv2.polylines(core, [np.array(points, np.int32)], False, 1.0, width, cv2.LINE_AA)
    streaks = 1 + 0.06 * _clouds(core.shape, 10, np.random.default_rng(seed))
    amount = np.clip(0.95 * cv2.GaussianBlur(core, (0, 0), 2.0) * streaks, 0, 1)[..., None]
    return image * (np.asarray(color, float) / 243) ** amount, core > 0.5


def littered(image: Floats, seed: int = 1) -> Floats:
    """The image with dust, rims of bubbles and edges of the coverslip."""
    random, height, width = np.random.default_rng(seed), image.shape[0], image.shape[1]
    image = image.copy()
    for _ in range(30):
        place = (int(random.integers(width)), int(random.integers(height)))
        cv2.circle(image, place, int(random.integers(1, 4)), (90, 85, 80), -1)
    cv2.circle(image, (width - 60, 60), 40, (150, 150, 155), 3, cv2.LINE_AA)
    cv2.line(image, (0, 12), (width, 22), (120, 120, 125), 4, cv2.LINE_AA)
    cv2.line(image, (width - 14, 0), (width - 10, height), (170, 172, 178), 6, cv2.LINE_AA)
    return image


def unevenly_lit(image: Floats) -> Floats:
    """The image darker by a tenth towards the corners, and by 2 % across each field of the scanner."""
    rows, columns = np.mgrid[0 : image.shape[0], 0 : image.shape[1]]
    middle_y, middle_x = image.shape[0] / 2, image.shape[1] / 2
    fall = 1 - 0.10 * (((columns - middle_x) / middle_x) ** 2 + ((rows - middle_y) / middle_y) ** 2) / 2
    return np.asarray(image * (fall * (1 - 0.02 * (columns % 60) / 60))[..., None])


def scanned(image: Floats, seed: int = 1) -> RGB:
    """The image as a scanner stores it: noise, then JPEG."""
    random = np.random.default_rng(seed)
    noisy = image + random.normal(0, 1.2, image.shape) + random.normal(0, 0.8, image.shape[:2])[..., None]
    done, data = cv2.imencode(".jpg", np.clip(noisy, 0, 255).astype(np.uint8)[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    assert done
    return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[:, :, ::-1])


def overlap(found: npt.NDArray[np.uint8], tissue: Flags) -> float:
    """Intersection over union."""
    return float(((found > 0) & tissue).sum() / ((found > 0) | tissue).sum())


def _clouds(shape: tuple[int, ...], scale: float, random: np.random.Generator) -> Floats:
    small = (int(shape[0] / scale) + 4, int(shape[1] / scale) + 4)
    noise = cv2.resize(random.standard_normal(small).astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray((noise - noise.mean()) / noise.std(), np.float64)


def outlined(found: TissueMask, width: int, height: int) -> list[shapely.Polygon]:
    """The polygons of a mask on a slide of that size."""
    return tissue_polygons(found.mask, found.downsample, width, height)

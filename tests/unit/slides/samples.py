"""Small synthetic slides, and the comparison of found cells with planted nuclei."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from scheduling.slides.synthetic.planting import Nuclei
from scheduling.slides.synthetic.slide import GroundTruth


@dataclass(frozen=True)
class Agreement:
    """Recall and precision at IoU 0.5."""

    recall: float
    precision: float


def agreement(truth: GroundTruth, polygons: list[npt.NDArray[np.int64]]) -> Agreement:
    """Match closed rings along pixel edges with the planted nuclei; above IoU 0.5 a match is unique."""
    planted = truth.labels(0, 0, truth.width, truth.height)
    areas, matched = np.bincount(planted.reshape(-1), minlength=len(truth) + 1), 0
    for ring in polygons:
        left, top = ring.min(axis=0)
        right, bottom = ring.max(axis=0)
        inside = planted[top:bottom, left:right][filled(ring - (left, top), right - left, bottom - top) > 0]
        numbers = np.bincount(inside)
        numbers[0] = 0
        best = int(numbers.argmax())
        matched += numbers[best] / (areas[best] + len(inside) - numbers[best]) > 0.5
    return Agreement(recall=matched / int((areas[1:] > 0).sum()), precision=matched / max(1, len(polygons)))


def filled(ring: npt.NDArray[np.int64], width: int, height: int) -> npt.NDArray[np.uint8]:
    """uint8 (height, width): the pixels inside a ring along pixel edges, exactly.

    Drawn four times enlarged, on pixel centres: the middle of each pixel is then never on the outline.
    """
    canvas = np.zeros((4 * height + 1, 4 * width + 1), np.uint8)
    cv2.fillPoly(canvas, [(ring * 4).astype(np.int32)], 255)
    return np.asarray(canvas[2::4, 2::4], np.uint8)


def round_nuclei(places: list[tuple[float, float]], radius: float = 9.0) -> Nuclei:
    """Dark round nuclei at these centres."""
    return Nuclei.of_rows([(x, y, radius, radius, 0.0, 150.0, 0.0) for x, y in places])

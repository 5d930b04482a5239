"""From the network's fields to labels, many times as fast as the model's own forward.

Only the arithmetic that decides on single bits is left to torch (sigmoid, the model's own pixel classifier); the rest are
the loops of kernels.py. Done as the model does it, it gives the model's labels bit for bit; probing makes sure of that, and
only then is it used. In earnest it differs in one thing: how far apart a pixel and its seed are is not the difference of two
rounded places in the window but the distance itself, so that a nucleus is the same to the bit wherever in a window it lies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from scheduling.instanseg.kernels import grown, joined, painted, peaks
from scheduling.instanseg.pairing import resolved
from scheduling.slides.nuclei.contours import Ints, Labels

#: What the forward is asked for by name, and its default is the model's own attribute `default_<name>`.
_SETTINGS = (
    *("mask_threshold", "peak_distance", "seed_threshold", "overlap_threshold", "fg_threshold"),
    *("window_size", "cleanup_fragments", "resolve_cell_and_nucleus"),
)
#: Most objects end within this square around their seed; the classifier is asked about the larger one only for the others.
_INNER_PX = 32
#: Pixels that the classifier is asked about at once. On a CPU no more than torch gives to one thread: its vector code and
#: what it does at a thread's end differ in the last bit.
_ROWS_CPU, _ROWS_DEVICE = 32768, 1 << 20


@dataclass(frozen=True, kw_only=True)
class _Objects:
    """Object i has the flat pixels pixels[starts[i]:starts[i] + lengths[i]], each with its probability."""

    pixels: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]
    starts: Ints
    lengths: Ints


class FastLabels:
    """The post-processing of one model; `as_model` rounds places as the model's own forward does, to be compared with it."""

    def __init__(self, module: Any, has_cells: bool, *, as_model: bool = False) -> None:
        self._as_model = as_model
        self._classifier = module.pixel_classifier
        self._has_cells = has_cells
        self._defaults = {name: float(getattr(module, f"default_{name}")) for name in _SETTINGS}
        self._coordinates, self._sigmas, self._seeds = int(module.dim_coords), int(module.n_sigma), int(module.dim_seeds)

    @classmethod
    def of(cls, module: Any, has_cells: bool, *, as_model: bool = False) -> FastLabels | None:
        """None for a model that does not have the parts of InstanSeg's exporter."""
        try:
            found = cls(module, has_cells, as_model=as_model)
        except (AttributeError, TypeError, ValueError):
            return None
        return found if hasattr(module, "fcn") and found._coordinates >= 2 else None

    def can(self, height: int, width: int, settings: Mapping[str, float]) -> bool:
        """Whether a window of this size can be processed with these settings as the model's own forward would."""
        chosen = self._chosen(settings)
        return bool(chosen["cleanup_fragments"]) and min(height, width) >= 2 * int(chosen["window_size"]) >= _INNER_PX

    def labels(self, fields: Any, settings: Mapping[str, float]) -> tuple[Labels, Labels | None]:
        """int32 (h, w) of nuclei, and of cells, from the network's output, float32 (channels, h, w) on any device."""
        chosen = self._chosen(settings)
        if not self._has_cells:
            return self._one(fields, chosen), None
        half = fields.shape[0] // 2
        nuclei, cells = self._one(fields[:half], chosen), self._one(fields[half:], chosen)
        return resolved(nuclei, cells) if chosen["resolve_cell_and_nucleus"] else (nuclei, cells)

    def _chosen(self, settings: Mapping[str, float]) -> dict[str, float]:
        return self._defaults | {name: float(value) for name, value in settings.items() if name in self._defaults}

    def _one(self, fields: Any, chosen: Mapping[str, float]) -> Labels:
        _, height, width = fields.shape
        embedding, sigma, seed_map = self._parts(fields, chosen["fg_threshold"])
        seeds = peaks(seed_map.cpu().numpy(), int(chosen["peak_distance"]), chosen["seed_threshold"])
        if len(seeds) == 0:
            return np.zeros((height, width), np.int32)
        objects = self._objects(embedding, sigma, seeds, int(chosen["window_size"]), chosen["mask_threshold"])
        shape = objects.pixels, objects.starts, objects.lengths
        numbers = joined(*shape, height * width, chosen["overlap_threshold"])
        return np.asarray(painted(objects.pixels, objects.values, *shape[1:], numbers, height, width), np.int32)

    def _parts(self, fields: Any, fg_threshold: float) -> tuple[Any, Any, Any]:
        """Where each pixel points to (coordinates, h, w), what the classifier gets beside it (sigmas, h, w), and the seed map (h, w).

        As the model does it a place in the window; else the way from the pixel.
        """
        first, last = self._coordinates, self._coordinates + self._sigmas
        embedding = (torch.sigmoid(fields[:first]) - 0.5) * 8
        if self._as_model:
            embedding = embedding + _places(first, fields)
        if self._seeds == 1:
            return embedding, fields[first:last], fields[-1] / 15 + 0.5
        seed_map = fields[-2] / 15 + 0.5
        seed_map[~(torch.sigmoid(fields[-1]) > fg_threshold)] = 0
        return embedding, fields[first:last], seed_map

    def _objects(self, embedding: Any, sigma: Any, seeds: Ints, reach_px: int, threshold: float) -> _Objects:
        """The object of every seed: in the small square, and where that cuts it, in the one of `reach_px` on each side."""
        _, height, width = embedding.shape
        corners = np.clip(seeds, reach_px, np.array([height, width]) - reach_px) - reach_px
        largest = 2 * reach_px
        found = self._grown(embedding, sigma, seeds, corners, largest, min(largest, _INNER_PX), threshold)
        wider = np.flatnonzero(found.lengths < 0)
        if len(wider) == 0:
            return found
        more = self._grown(embedding, sigma, seeds[wider], corners[wider], largest, largest, threshold)
        starts, lengths = found.starts.copy(), found.lengths.copy()
        starts[wider], lengths[wider] = more.starts + len(found.pixels), more.lengths
        pixels, values = np.concatenate([found.pixels, more.pixels]), np.concatenate([found.values, more.values])
        return _Objects(pixels=pixels, values=values, starts=starts, lengths=lengths)

    def _grown(self, embedding: Any, sigma: Any, seeds: Ints, outer: Ints, outer_px: int, inner_px: int, threshold: float) -> _Objects:
        inner = np.clip(seeds - inner_px // 2, outer, outer + outer_px - inner_px)
        step = max(1, (_ROWS_CPU if embedding.device.type == "cpu" else _ROWS_DEVICE) // inner_px**2)
        parts = []
        for begin in range(0, len(seeds), step):
            at = slice(begin, begin + step)
            asked = self._probabilities(embedding, sigma, seeds[at], inner[at], inner_px)
            parts.append(grown(asked, inner[at], outer[at], seeds[at], outer_px, embedding.shape[2], threshold))
        pixels, values, lengths = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        counts = np.maximum(lengths, 0)
        return _Objects(pixels=pixels, values=values, starts=np.cumsum(counts) - counts, lengths=lengths)

    def _probabilities(self, embedding: Any, sigma: Any, seeds: Ints, corners: Ints, side_px: int) -> npt.NDArray[np.float32]:
        """float32 (n, side, side): whether each pixel of a square belongs to the square's seed, after the model's own classifier."""
        device, number = embedding.device, len(seeds)
        steps = torch.arange(side_px, device=device)
        corner, seed = (torch.from_numpy(places).to(device) for places in (corners, seeds))
        rows = (corner[:, 0, None] + steps)[:, :, None]
        columns = (corner[:, 1, None] + steps)[:, None, :]
        apart = embedding[:, rows, columns] - embedding[:, seed[:, 0], seed[:, 1]][:, :, None, None]
        if not self._as_model:
            height, width = embedding.shape[1:]
            apart[0] += _distances(columns - seed[:, 1, None, None], width)
            apart[1] += _distances(rows - seed[:, 0, None, None], height)
        asked = torch.cat([apart, sigma[:, rows, columns]]).permute(1, 2, 3, 0).reshape(number * side_px**2, -1)
        answer = torch.sigmoid(self._classifier(asked)).float()
        return np.asarray(answer.cpu().numpy().reshape(number, side_px, side_px), np.float32)


def _places(dimensions: int, fields: Any) -> Any:
    """(dimensions, h, w): column and row in quarters of a pixel, stretched so that the last one is the width, and zeros beyond two."""
    _, height, width = fields.shape
    across = torch.linspace(0, width * 64 / 256, width, device=fields.device)[None, None, :].expand(1, height, width)
    down = torch.linspace(0, height * 64 / 256, height, device=fields.device)[None, :, None].expand(1, height, width)
    more = torch.zeros(dimensions - 2, height, width, device=fields.device)
    return torch.cat([across, down, more])


def _distances(pixels: Any, size: int) -> Any:
    """Differences of columns (or rows) as differences of places in a window of this width (or height), rounded once."""
    return (pixels.double() * (size * 64 / 256 / (size - 1))).float()

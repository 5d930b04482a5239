"""`python -m scheduling.instanseg.probe FILE`: what a model file is, found by running it; one line of JSON, `facts` or `refused`.

A window of a slide must give the objects that every other window which sees them gives. So the probe measures how far the
network looks and where a window may begin, and refuses what cannot be tiled. It runs code from the file: in a process of its own.
"""

from __future__ import annotations

import hashlib
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import torch

from scheduling.instanseg.facts import CELLS, NUCLEI, ModelFacts, ModelUnusable
from scheduling.instanseg.network import Network, load_module, quiet
from scheduling.instanseg.normalisation import Normalisation, of_histograms
from scheduling.instanseg.pairing import tied
from scheduling.slides.nuclei.calibration import histograms
from scheduling.slides.nuclei.contours import Labels, first_pixels
from scheduling.slides.reading.interface import RGB
from scheduling.slides.reading.reader import open_slide
from scheduling.slides.synthetic.slide import write_sample

WINDOW_PX = 512
_SMALL_PX = 256
#: The halo of a window can hold no more.
MOST_REACH_PX = 128
#: A window's core must be a multiple of it.
STRIDES_PX = (1, 2, 4, 8, 16, 32)
_FINEST_UM, _COARSEST_UM = 0.1, 2.0
#: Beyond it two answers are not the same; a misplaced pooling differs by a tenth, the order of additions by a millionth.
_TOLERANCE = 1e-3
#: Objects that two windows may draw differently: a probability on the threshold falls either way.
_DIFFERENT = 0.01
_TRIALS = 3
#: Without so many the comparison of two ways to find them says nothing.
_OBJECTS = 20
_BLOCK_PX = 8


def probe(file: Path) -> ModelFacts:
    """Facts of a model, without the name. Raises ModelUnusable with the reason."""
    module = load_module(file)
    pixel_size_um, outputs = _declared(module)
    pixels = _tissue(WINDOW_PX + 64)
    norm = of_histograms(histograms(pixels))
    image = torch.from_numpy(np.stack([norm.table()[channel][pixels[..., channel]] for channel in range(3)]))[None]
    with torch.inference_mode(), quiet():
        _check_output(module, image[..., :_SMALL_PX, :_SMALL_PX], len(outputs))
        grey = torch.rand(image.shape, generator=torch.Generator().manual_seed(2))
        reach_px = max(_reach_px(module, image), _reach_px(module, grey))
        stride_px = _stride_px(module, image)
    facts = ModelFacts(
        name="",
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        pixel_size_um=pixel_size_um,
        outputs=outputs,
        channels=3,
        stride_px=stride_px,
        reach_px=reach_px,
        window_px=WINDOW_PX,
        is_fast=True,
        torch=str(torch.__version__),
        installed_at=datetime.now(UTC).isoformat(),
    )
    fast, own = Network(module, facts, as_model=True), Network(module, _changed(facts, is_fast=False))
    is_fast = fast.is_fast and _agree(fast, own, _trial_windows(pixels), norm)
    _check_two_places(Network(module, facts) if is_fast else own, pixels, norm)
    return _changed(facts, is_fast=is_fast)


def _changed(facts: ModelFacts, *, is_fast: bool) -> ModelFacts:
    return ModelFacts(**{**vars(facts), "is_fast": is_fast})


def _declared(module: Any) -> tuple[float, tuple[str, ...]]:
    """(pixel size, outputs) as the model says of itself."""
    pixel_size, has_cells = getattr(module, "pixel_size", None), getattr(module, "cells_and_nuclei", None)
    if not isinstance(pixel_size, (int, float)) or not isinstance(has_cells, bool):
        raise ModelUnusable("The file is no InstanSeg model: it does not say its pixel_size and cells_and_nuclei.")
    if not _FINEST_UM <= pixel_size <= _COARSEST_UM:
        raise ModelUnusable(
            f"The model's pixel size is {pixel_size:g} microns; from {_FINEST_UM:g} to {_COARSEST_UM:g} are supported for brightfield slides."
        )
    try:
        names = {argument.name for argument in module.forward.schema.arguments}
    except (AttributeError, RuntimeError):
        names = set()
    if "target_segmentation" not in names:
        raise ModelUnusable("The file is no InstanSeg model: its forward takes no target_segmentation.")
    return float(pixel_size), (NUCLEI, CELLS) if has_cells else (NUCLEI,)


def _forward(module: Any, image: Any) -> Any:
    return module(image.clone(), target_segmentation=torch.tensor([1, 1]))


def _check_output(module: Any, window: Any, outputs: int) -> None:
    """Three channels in, a label map of the same size for each output, the same one again. Raises ModelUnusable."""
    try:
        labels = _forward(module, window)
    except (RuntimeError, torch.jit.Error) as error:
        raise ModelUnusable(f"The model cannot process an RGB window: {_last_line(error)}") from error
    expected = (1, outputs, *window.shape[2:])
    if not isinstance(labels, torch.Tensor) or tuple(labels.shape) != expected:
        found = tuple(labels.shape) if isinstance(labels, torch.Tensor) else type(labels).__name__
        raise ModelUnusable(f"The model gives {found} for a window, not one label map for each of its outputs, {expected}.")
    if not torch.isfinite(labels).all() or not torch.isfinite(_response(module, window)).all():
        raise ModelUnusable("The model's output is not finite (NaN or infinity).")
    if (labels < 0).any() or (labels != labels.round()).any():
        raise ModelUnusable("The model's output is no label map: labels must be whole numbers from 0.")
    if not torch.equal(labels, _forward(module, window)):
        raise ModelUnusable("The model gives another answer when it is asked again.")


def _response(module: Any, image: Any) -> Any:
    """float32 (channels, h, w): what the network itself gives; of a model that does not part with it, where it finds objects."""
    found = module.fcn(image.clone()) if hasattr(module, "fcn") else (_forward(module, image) > 0).float()
    return found[0].float()


def _reach_px(module: Any, image: Any) -> int:
    """How far away a change of the input changes the response. Raises ModelUnusable when no halo can hold it."""
    middle = (image.shape[-1] - _BLOCK_PX) // 2 // _BLOCK_PX * _BLOCK_PX
    block = slice(middle, middle + _BLOCK_PX)
    before, chance, reach = _response(module, image), torch.Generator().manual_seed(1), 0
    for _ in range(_TRIALS):
        changed = image.clone()
        changed[..., block, block] = torch.rand((1, 3, _BLOCK_PX, _BLOCK_PX), generator=chance) * 4 - 1.5
        places = ((_response(module, changed) != before).any(dim=0)).nonzero()
        if len(places):
            reach = max(reach, int((middle - places).max()), int((places - middle - _BLOCK_PX + 1).max()))
    if reach >= middle - 2 * _BLOCK_PX:
        raise ModelUnusable("Each pixel of the model's output depends on the whole window: results would change with the tiles.")
    if reach > MOST_REACH_PX:
        raise ModelUnusable(f"The model looks {reach} pixels around itself; results agree between tiles up to {MOST_REACH_PX} only.")
    return reach


def _stride_px(module: Any, image: Any) -> int:
    """The smallest distance at which a window of the same size gives the same response. Raises ModelUnusable when there is none."""
    size, margin = WINDOW_PX, MOST_REACH_PX
    first = _response(module, image[..., :size, :size])
    scale = max(float(first.abs().mean()), 1e-6)
    for stride in STRIDES_PX:
        other = _response(module, image[..., stride : stride + size, stride : stride + size])
        ours = first[:, margin + stride : size - margin, margin + stride : size - margin]
        theirs = other[:, margin : size - margin - stride, margin : size - margin - stride]
        if float((ours - theirs).abs().max()) <= _TOLERANCE * scale:
            return stride
    raise ModelUnusable(f"The model's output depends on where a window begins, at every step up to {STRIDES_PX[-1]} pixels.")


def _agree(fast: Network, own: Network, windows: list[RGB], norm: Normalisation) -> bool:
    """Whether the fast labels are the model's own on every window, on objects enough to show it."""
    found = [_same_objects(fast, own, window, norm) for window in windows]
    return None not in found and sum(count or 0 for count in found) >= _OBJECTS


def _same_objects(fast: Network, own: Network, window: RGB, norm: Normalisation) -> int | None:
    """How many nuclei the model finds; None when the fast labels are not its own, bit for bit.

    Cells in which it chooses among several largest nuclei are left out: that choice is arbitrary.
    """
    ours, theirs = fast.labels(window, norm, {}), own.labels(window, norm, {})
    is_same = np.array_equal(ours[0], theirs[0])
    if ours[1] is not None and theirs[1] is not None:
        nuclei, cells = own.labels(window, norm, {"resolve_cell_and_nucleus": 0.0})
        undecided = np.zeros(window.shape[:2], np.bool_) if cells is None else tied(nuclei, cells)
        is_same &= bool(((ours[1] == theirs[1]) | undecided).all())
    return len(np.unique(theirs[0])) - 1 if is_same else None


def _trial_windows(pixels: RGB) -> list[RGB]:
    """Tissue, tissue elsewhere with another size, a crowd without any order, glass."""
    chance = np.random.default_rng(7).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    crowd = np.repeat(np.repeat(chance, 4, axis=0), 4, axis=1)
    return [pixels[:384, :384], pixels[-248:, -312:], crowd, np.full((256, 256, 3), 244, np.uint8)]


def _check_two_places(network: Network, pixels: RGB, norm: Normalisation) -> None:
    """Two windows of one size give the same objects where both see them well. Raises ModelUnusable."""
    size, step, margin = WINDOW_PX, 64, MOST_REACH_PX
    first, second = (network.labels(np.ascontiguousarray(pixels[at:, at:][:size, :size]), norm, {}) for at in (0, step))
    for ours, theirs in zip(first, second, strict=True):
        if ours is None or theirs is None:
            continue
        common = slice(margin + step, size - margin), slice(margin, size - margin - step)
        mine, other = _whole_objects(ours[common[0], common[0]]), _whole_objects(theirs[common[1], common[1]])
        different = len(mine ^ other)
        if different > max(2, _DIFFERENT * len(mine | other)):
            raise ModelUnusable(f"Two windows at different places disagree about {different} of {len(mine | other)} objects.")


def _whole_objects(labels: Labels) -> set[tuple[int, bytes]]:
    """Objects that do not touch the edge, each as its first pixel and a digest of its pixels."""
    cut = set(np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])).tolist())
    first, _ = first_pixels(labels, int(labels.max()))
    inside = [number for number in np.flatnonzero(first[1:] >= 0) + 1 if int(number) not in cut]
    return {(int(first[number]), hashlib.sha256(np.flatnonzero(labels == number).tobytes()).digest()) for number in inside}


def _tissue(size: int) -> RGB:
    """uint8 (size, size, 3): synthetic tissue at half a micron, full of nuclei."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "probe.tif"
        write_sample(path, width=2048, height=1536, seed=3)
        return _fullest(open_slide(path).read(0, 0, 2048, 1536), size)


def _fullest(pixels: npt.NDArray[np.uint8], size: int) -> RGB:
    """The darkest square of this size, on a coarse grid."""
    places = [(y, x) for y in range(0, pixels.shape[0] - size, 128) for x in range(0, pixels.shape[1] - size, 128)]
    y, x = min(places, key=lambda at: float(pixels[at[0] : at[0] + size : 4, at[1] : at[1] + size : 4].mean()))
    return np.ascontiguousarray(pixels[y : y + size, x : x + size])


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def main(file: Path) -> int:
    """Print the answer as the one line on standard output; whatever the model itself prints goes to standard error."""
    answer_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        answer: dict[str, Any] = {"facts": vars(probe(file))}
    except ModelUnusable as error:
        answer = {"refused": str(error)}
    with answer_to:
        answer_to.write(orjson.dumps(answer).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

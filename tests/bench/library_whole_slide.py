"""What instanseg-torch itself makes of a slide; run by an interpreter that has it with its readers: SLIDE MODEL OUT.npz.

It needs nothing of this project: `bench_instanseg` starts it in an environment of its own, since the library's readers want older
versions of zarr and tifffile than ours.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
import zarr
from instanseg import InstanSeg


def main(slide: Path, model: Path, out: Path) -> None:
    """Write seconds of the whole-slide function (labels and GeoJSON), its labels, and those of a single pass over the whole image."""
    torch.set_num_threads(2)
    found = InstanSeg(torch.jit.load(model), device="cpu", verbosity=0)
    found.prediction_tag = "_found"
    pixels, mpp = found.read_image(str(slide), processing_method="small")
    found.eval_small_image(pixels[:512, :512], pixel_size=mpp, return_image_tensor=False)
    began = time.perf_counter()
    found.eval(str(slide), processing_method="wsi", save_geojson=True)
    took = time.perf_counter() - began
    labels = np.asarray(zarr.open(str(slide.with_name(f"{slide.stem}_found.zarr")), mode="r")[0])
    once = found.eval_small_image(pixels, pixel_size=mpp, return_image_tensor=False, rescale_output=False)
    np.savez(out, seconds=took, labels=labels, single_pass=np.asarray(once.cpu())[0, 0].astype(np.int32))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))

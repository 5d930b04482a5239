"""Writes a small MIRAX slide that OpenSlide opens: a .mrxs and its folder, one zoom level of JPEG images."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 128
MPP = 0.25
_SLIDE_ID = "0123456789ABCDEF0123456789ABCDEF"
_VERSION = "01.02"


def write_mirax(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    """Whole images of SIDE pixels, cut from `pixels` (h, w, 3); what is left over at the right and below is left out."""
    folder = path.with_suffix("")
    folder.mkdir(parents=True)
    path.write_bytes(b"\xff\xd8\xff\xe0 a preview that nobody reads")
    across, down = pixels.shape[1] // SIDE, pixels.shape[0] // SIDE
    data, entries = io.BytesIO(), []
    for index in range(across * down):
        top, left = index // across * SIDE, index % across * SIDE
        image = io.BytesIO()
        Image.fromarray(pixels[top : top + SIDE, left : left + SIDE]).save(image, "jpeg", quality=95)
        entries.append((index, data.tell(), len(image.getvalue()), 0))
        data.write(image.getvalue())
    (folder / "Data0000.dat").write_bytes(data.getvalue())
    (folder / "Index.dat").write_bytes(_index(entries))
    (folder / "Slidedat.ini").write_text(_slidedat(across, down), "utf-8-sig")


def _index(entries: list[tuple[int, int, int, int]]) -> bytes:
    """Two roots, the table of levels, the list of the level, its page of images."""
    head = (_VERSION + _SLIDE_ID).encode()
    levels = len(head) + 8
    page = levels + 4 + 8
    parts = [head, struct.pack("<ii", levels, page), struct.pack("<i", levels + 4), struct.pack("<ii", 0, page)]
    parts.append(struct.pack("<ii", len(entries), 0))
    return b"".join(parts + [struct.pack("<iiii", *entry) for entry in entries])


def _slidedat(across: int, down: int) -> str:
    sections: dict[str, dict[str, object]] = {
        "GENERAL": {
            "SLIDE_VERSION": _VERSION,
            "SLIDE_ID": _SLIDE_ID,
            "IMAGENUMBER_X": across,
            "IMAGENUMBER_Y": down,
            "OBJECTIVE_MAGNIFICATION": 20,
            "CameraImageDivisionsPerSide": 1,
        },
        "HIERARCHICAL": {
            "INDEXFILE": "Index.dat",
            "HIER_COUNT": 1,
            "NONHIER_COUNT": 0,
            "HIER_0_NAME": "Slide zoom level",
            "HIER_0_SECTION": "NONE",
            "HIER_0_COUNT": 1,
            "HIER_0_VAL_0": "ZoomLevel_0",
            "HIER_0_VAL_0_SECTION": "LAYER_0_LEVEL_0_SECTION",
        },
        "DATAFILE": {"FILE_COUNT": 1, "FILE_0": "Data0000.dat"},
        "LAYER_0_LEVEL_0_SECTION": {
            "OVERLAP_X": 0.0,
            "OVERLAP_Y": 0.0,
            "MICROMETER_PER_PIXEL_X": MPP,
            "MICROMETER_PER_PIXEL_Y": MPP,
            "IMAGE_FILL_COLOR_BGR": 16777215,
            "DIGITIZER_WIDTH": SIDE,
            "DIGITIZER_HEIGHT": SIDE,
            "IMAGE_CONCAT_FACTOR": 0,
            "IMAGE_FORMAT": "JPEG",
        },
    }
    return "\r\n".join(f"[{name}]\r\n" + "\r\n".join(f"{k} = {v}" for k, v in keys.items()) for name, keys in sections.items()) + "\r\n"

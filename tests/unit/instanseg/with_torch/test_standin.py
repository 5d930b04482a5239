"""The stand-in is a real InstanSeg model to instanseg-torch's own loader, and our normalisation is the library's."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from instanseg import InstanSeg
from instanseg.utils.utils import percentile_normalize

from scheduling.instanseg.normalisation import of_histograms
from scheduling.slides.nuclei.calibration import histograms
from tests.support.models import tissue
from tests.support.standin import RELEASED, standin_bytes, write_standin


@pytest.mark.parametrize(("variant", "outputs"), [("nuclei", 1), ("cells", 2)])
def test_instanseg_takes_it_as_a_module(variant: str, outputs: int) -> None:
    module = torch.jit.load(BytesIO(standin_bytes(variant)))
    labels = InstanSeg(module, device="cpu", verbosity=0).eval_small_image(tissue(144, 128), return_image_tensor=False)
    assert labels.shape == (1, outputs, 128, 144)
    assert len(torch.unique(labels[0, 0])) > 8


@pytest.mark.parametrize(("name", "place"), [("brightfield_nuclei", RELEASED), ("standin", Path("standin") / "instanseg.pt")])
def test_instanseg_finds_it_in_a_folder_of_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: Path) -> None:
    write_standin(tmp_path / place)
    monkeypatch.setenv("INSTANSEG_BIOIMAGEIO_PATH", str(tmp_path))
    found = InstanSeg(name, device="cpu", verbosity=0).instanseg
    assert found.pixel_size == 0.5
    assert not found.cells_and_nuclei


def test_our_table_gives_what_the_library_makes_of_a_windows_own_percentiles() -> None:
    rgb = tissue(256, 256)
    table = of_histograms(histograms(rgb)).table()
    ours = np.stack([table[channel][rgb[:, :, channel]] for channel in range(3)])
    theirs = percentile_normalize(torch.from_numpy(rgb.transpose(2, 0, 1).astype(np.float32)))
    assert np.abs(ours - theirs.numpy()).max() < 1e-5

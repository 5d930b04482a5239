"""Our labels are instanseg-torch's, label for label; a model is the file that was installed, loaded once, two at most."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from instanseg import InstanSeg

from scheduling.instanseg import network as networks
from scheduling.instanseg.facts import ModelUnusable
from scheduling.instanseg.network import Network, network_of
from scheduling.instanseg.normalisation import Normalisation, of_histograms
from scheduling.instanseg.threads import THREADS_VARIABLE
from scheduling.slides.nuclei.calibration import histograms
from tests.support.models import facts_of, tissue
from tests.support.standin import standin_bytes, write_standin

Networks = Callable[..., Network]


def normalised(rgb: np.ndarray, norm: Normalisation) -> torch.Tensor:
    """float32 (3, h, w), as the library wants it."""
    return torch.from_numpy(np.stack([norm.table()[channel][rgb[:, :, channel]] for channel in range(3)]))


@cache
def library(variant: str) -> InstanSeg:
    return InstanSeg(torch.jit.load(BytesIO(standin_bytes(variant))), device="cpu", verbosity=0)


def library_labels(variant: str, image: torch.Tensor | np.ndarray, *, normalise: bool, **settings: float) -> list[np.ndarray]:
    """instanseg-torch's own labels of a small image."""
    found = library(variant).eval_small_image(image, normalise=normalise, return_image_tensor=False, **settings)
    return list(found[0].numpy().astype(np.int32))


@pytest.mark.parametrize("size", [(256, 192), (250, 184)], ids=["whole", "mirrored"])
@pytest.mark.parametrize("way", [(False, False), (True, True), (True, False)], ids=["own", "as-model", "fast"])
@pytest.mark.parametrize("variant", ["nuclei", "cells"])
def test_labels_equal_the_librarys_on_the_same_normalised_window(
    network: Networks, variant: str, way: tuple[bool, bool], size: tuple[int, int]
) -> None:
    rgb = np.ascontiguousarray(tissue(256, 192)[: size[1], : size[0]])
    norm = Normalisation(low=(60.0, 31.5, 70.0), high=(244.0, 240.0, 245.0))
    theirs = library_labels(variant, normalised(rgb, norm), normalise=False)
    ours = [labels for labels in network(variant, *way).labels(rgb, norm, {}) if labels is not None]
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == np.int32
        assert np.array_equal(mine, other)
    assert len(np.unique(ours[0])) > 20


@pytest.mark.parametrize("is_fast", [False, True])
def test_with_a_windows_own_percentiles_they_equal_the_librarys_normalised_run(network: Networks, is_fast: bool) -> None:
    rgb = tissue(144, 128)
    theirs = library_labels("nuclei", rgb, normalise=True)
    ours, _ = network("nuclei", is_fast).labels(rgb, of_histograms(histograms(rgb)), {})
    assert np.array_equal(ours, theirs[0])


@pytest.mark.parametrize(
    "settings",
    [
        {"seed_threshold": 0.8, "mask_threshold": 0.6},
        {"peak_distance": 9.0, "overlap_threshold": 0.05},
        {"window_size": 16.0},
        {"cleanup_fragments": 0.0},
        {"resolve_cell_and_nucleus": 0.0},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_settings_reach_the_model_by_name(network: Networks, settings: dict[str, float]) -> None:
    rgb, whole = tissue(144, 128), {"peak_distance": int, "window_size": int, "cleanup_fragments": bool, "resolve_cell_and_nucleus": bool}
    norm = of_histograms(histograms(rgb))
    typed = {name: whole.get(name, float)(value) for name, value in settings.items()}
    theirs = library_labels("cells", normalised(rgb, norm), normalise=False, **typed)
    for is_fast in (False, True):
        ours = network("cells", is_fast).labels(rgb, norm, {**settings, "no_such_setting": 3.0})
        assert all(np.array_equal(mine, other) for mine, other in zip(ours, theirs, strict=True))


def test_the_same_window_gives_the_same_labels_again_and_is_not_touched(network: Networks) -> None:
    rgb = tissue(144, 128)
    before, norm = rgb.copy(), of_histograms(histograms(rgb))
    found = [network("nuclei", False).labels(rgb, norm, {})[0] for _ in range(3)]
    assert np.array_equal(rgb, before)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


@pytest.mark.parametrize("is_fast", [False, True])
@pytest.mark.parametrize("variant", ["nuclei", "cells"])
def test_glass_has_no_objects(network: Networks, variant: str, is_fast: bool) -> None:
    norm = Normalisation(low=(60.0, 31.5, 70.0), high=(244.0, 240.0, 245.0))
    nuclei, cells = network(variant, is_fast).labels(np.full((128, 128, 3), 243, np.uint8), norm, {})
    assert not nuclei.any()
    assert cells is None if variant == "nuclei" else not np.any(cells)


def test_a_file_that_has_changed_is_refused(tmp_path: Path) -> None:
    path = write_standin(tmp_path / "model.pt")
    with pytest.raises(ModelUnusable, match="has changed"):
        Network.load(path, facts_of("nuclei", file=b"another"))


def test_a_file_that_is_no_torchscript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"not a model")
    with pytest.raises(ModelUnusable, match="no TorchScript"):
        Network.load(path, facts_of("nuclei", file=b"not a model"))


def test_the_two_models_used_last_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    monkeypatch.setattr(Network, "load", lambda path, facts, device, backend: loaded.append(facts.name) or object())
    monkeypatch.setattr(networks, "_networks", type(networks._networks)())
    a, b, c = (facts_of("nuclei", file=name.encode(), name=name) for name in "abc")
    first = network_of(tmp_path, a)
    network_of(tmp_path, b)
    assert network_of(tmp_path, a) is first
    network_of(tmp_path, c)
    assert network_of(tmp_path, a) is first
    network_of(tmp_path, b)
    assert loaded == ["a", "b", "c", "b"]


def test_a_network_uses_the_cores_that_its_worker_was_granted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    path = write_standin(tmp_path / "model.pt")
    facts = facts_of("nuclei", file=path.read_bytes())
    monkeypatch.delenv(THREADS_VARIABLE, raising=False)
    Network.load(path, facts)
    assert asked == []
    monkeypatch.setenv(THREADS_VARIABLE, "3")
    Network.load(path, facts)
    assert asked == [3]

"""`manage.py install_model` with the real probe: the stand-in model is installed, and what cannot be tiled is refused with the reason."""

from __future__ import annotations

import zipfile
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from scheduling.instanseg.store import ModelStore
from tests.support.standin import standin_bytes, write_standin


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, settings: Any) -> Path:
    """A DATA_DIR of the test's own."""
    settings.DATA_DIR = tmp_path / "data"
    return tmp_path / "data"


def install(source: Path, **options: Any) -> str:
    out = StringIO()
    call_command("install_model", str(source), stdout=out, **options)
    return out.getvalue()


def test_a_bundle_of_the_stand_in_is_probed_and_installed(tmp_path: Path, data_dir: Path) -> None:
    bundle = tmp_path / "brightfield_nuclei.zip"
    with zipfile.ZipFile(bundle, "w") as out:
        out.writestr("brightfield_nuclei/rdf.yaml", "name: stand-in")
        out.writestr("brightfield_nuclei/instanseg.pt", standin_bytes())
    assert "installed: brightfield_nuclei (nuclei, 0.5 µm per pixel)" in install(bundle)
    (facts,) = ModelStore(data_dir).all()
    assert (facts.name, facts.pixel_size_um, facts.outputs, facts.channels) == ("brightfield_nuclei", 0.5, ("nuclei",), 3)
    assert facts.stride_px >= 1
    assert 0 < facts.reach_px < 128
    assert facts.torch.startswith("2.")
    assert ModelStore(data_dir).path(facts.sha256).read_bytes() == standin_bytes()
    assert "it is installed already" in install(bundle)


def test_a_model_that_no_halo_holds_is_refused_and_nothing_of_it_is_kept(tmp_path: Path, data_dir: Path) -> None:
    with pytest.raises(CommandError) as refused:
        install(write_standin(tmp_path / "global.pt", "global"))
    assert len(str(refused.value).splitlines()) == 1
    assert "Traceback" not in str(refused.value)
    assert not (data_dir / "models").exists()


def test_a_file_that_only_looks_like_torchscript_is_refused(tmp_path: Path, data_dir: Path) -> None:
    given = tmp_path / "false.pt"
    with zipfile.ZipFile(given, "w") as out:
        for name in ("false/data.pkl", "false/constants.pkl", "false/version"):
            out.writestr(name, "2")
    with pytest.raises(CommandError) as refused:
        install(given)
    assert "Traceback" not in str(refused.value)
    assert not (data_dir / "models").exists()

"""`manage.py install_model`: what it takes, what it refuses and how it says so, and that a second time changes nothing."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from scheduling.instanseg import downloading, installing
from scheduling.instanseg.facts import ModelUnusable
from scheduling.instanseg.store import ModelStore
from tests.support.models import facts_of
from tests.support.waiting import PATIENCE_S

MODEL = b"a model, if the probe says so"


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A DATA_DIR of the test's own; torch counts as installed, whether it is or not."""
    settings.DATA_DIR = tmp_path / "data"
    monkeypatch.setattr(installing, "has_torch", lambda: True)
    yield settings.DATA_DIR
    left = list((settings.DATA_DIR / "tmp").glob("*")) if (settings.DATA_DIR / "tmp").exists() else []
    assert not left, "something was left over"


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was probed; whatever it is, it is a model."""
    seen: list[bytes] = []

    def probed(file: Path, data_dir: Path) -> dict[str, Any]:
        seen.append(file.read_bytes())
        facts = facts_of("nuclei")
        return {name: getattr(facts, name) for name in ("pixel_size_um", "outputs", "channels", "stride_px", "reach_px", "window_px")} | {
            "name": "",
            "is_fast": True,
            "torch": "2.13.0",
        }

    monkeypatch.setattr(installing.probing, "probed", probed)
    return seen


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """As InstanSeg releases its models, in small."""
    path = tmp_path / "brightfield_nuclei.zip"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("brightfield_nuclei/rdf.yaml", "name: it")
        out.writestr("brightfield_nuclei/instanseg.pt", MODEL)
    return path


def install(source: str | Path, **options: Any) -> str:
    """What the command says."""
    out = StringIO()
    call_command("install_model", str(source), stdout=out, **options)
    return out.getvalue()


def refusal(source: str | Path, **options: Any) -> str:
    with pytest.raises(CommandError) as refused:
        install(source, **options)
    return str(refused.value)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_bundle_is_compared_probed_and_kept_under_the_hash_of_its_model(data_dir: Path, bundle: Path, probes: list[bytes]) -> None:
    said = install(bundle, sha256=sha256(bundle.read_bytes()).upper())
    assert said.splitlines()[-1] == f"installed: brightfield_nuclei (nuclei, 0.5 µm per pixel), model {sha256(MODEL)}"
    (facts,) = ModelStore(data_dir).all()
    assert (facts.name, facts.sha256, facts.is_fast) == ("brightfield_nuclei", sha256(MODEL), True)
    assert facts.installed_at.endswith("Z")
    assert ModelStore(data_dir).path(facts.sha256).read_bytes() == MODEL
    assert probes == [MODEL]


def test_without_a_hash_a_file_is_installed_and_its_hash_shown(bundle: Path, probes: list[bytes]) -> None:
    said = install(bundle, name="he")
    assert f"SHA-256 of brightfield_nuclei.zip: {sha256(bundle.read_bytes())} (not compared with anything" in said
    assert "installed: he " in said


def test_a_second_time_it_is_said_to_be_there_and_nothing_changes(data_dir: Path, bundle: Path, probes: list[bytes]) -> None:
    install(bundle)
    before = ModelStore(data_dir).all()
    assert "it is installed already" in install(bundle)
    assert ModelStore(data_dir).all() == before
    assert len(probes) == 1
    assert refusal(bundle, name="other") == "This file is installed as brightfield_nuclei; one file has one name."


def test_two_at_once_leave_one_model_and_both_say_so(
    data_dir: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, probes: list[bytes]
) -> None:
    both_probe = threading.Barrier(2, timeout=PATIENCE_S)
    probed = installing.probing.probed

    def together(file: Path, data_dir: Path) -> dict[str, Any]:
        both_probe.wait()
        return probed(file, data_dir)

    monkeypatch.setattr(installing.probing, "probed", together)
    said: list[str] = []
    both = [threading.Thread(target=lambda: said.append(install(bundle))) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert [line.splitlines()[-1].split(" ")[0] for line in said] == ["installed:"] * 2
    assert len(ModelStore(data_dir).all()) == len(list((data_dir / "models").iterdir())) == 1


def test_another_file_than_the_one_that_was_meant_is_not_even_opened(data_dir: Path, bundle: Path, probes: list[bytes]) -> None:
    wrong = sha256(b"another")
    reason = f"brightfield_nuclei.zip has the SHA-256 {sha256(bundle.read_bytes())}, not {wrong}: nothing was installed."
    assert refusal(bundle, sha256=wrong) == reason
    assert not probes
    assert ModelStore(data_dir).all() == []


@pytest.mark.parametrize(
    ("source", "options", "reason"),
    [
        ("no_such_model", {}, "There is no file no_such_model, nor is that a released model: brightfield_nuclei, "),
        ("brightfield_nuclei", {}, "A model is fetched only with --sha256"),
        ("brightfield_nuclei", {"sha256": "abc"}, "--sha256 must be 64 hexadecimal digits."),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_done(source: str, options: dict[str, str], reason: str) -> None:
    assert refusal(source, **options).startswith(reason)


def test_a_name_that_cannot_be_is_refused_before_the_probe(bundle: Path, probes: list[bytes]) -> None:
    assert "give one with --name" in refusal(bundle, name="a/b")
    assert "give one with --name" in refusal(bundle, name="0" * 64)
    assert not probes


def test_the_refusal_of_the_probe_is_passed_on_and_nothing_is_kept(data_dir: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: Path, data_dir: Path) -> dict[str, Any]:
        raise ModelUnusable("It has 1 channel, not 3.")

    monkeypatch.setattr(installing.probing, "probed", refuse)
    assert refusal(bundle) == "It has 1 channel, not 3."
    assert ModelStore(data_dir).all() == []


def test_facts_that_are_none_are_no_facts(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing.probing, "probed", lambda *_: {"outputs": ["nuclei"]})
    assert refusal(bundle).startswith("The probe's answer cannot be used: ")


def test_without_torch_it_says_what_to_install(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing, "has_torch", lambda: False)
    assert refusal(bundle) == "torch is not installed; install it with: pip install -r requirements-instanseg.txt"


def test_without_network_it_says_how_to_install_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://127.0.0.1:1/brightfield_nuclei.zip"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setitem(downloading.INDEX, "brightfield_nuclei", url)
    (line,) = refusal("brightfield_nuclei", sha256="0" * 64).splitlines()
    assert line.startswith("It could not be downloaded (127.0.0.1: ")
    assert f"Fetch {url} on a machine with network" in line
    assert line.endswith("manage.py install_model FILE --sha256 HEX --name brightfield_nuclei")


def test_a_model_that_was_damaged_on_the_disk_is_named(data_dir: Path, bundle: Path, probes: list[bytes]) -> None:
    install(bundle)
    (data_dir / "models" / sha256(MODEL) / "facts.json").write_text("{}")
    assert refusal(bundle) == f"{data_dir / 'models' / sha256(MODEL)} is damaged; remove that folder and install the model again."

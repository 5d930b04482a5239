"""What people give as a model: a TorchScript file is taken as it is, of a bundle the one .pt; whatever else an archive holds is refused."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from scheduling.instanseg import bundles
from scheduling.instanseg.bundles import suggested_name, torchscript_in
from scheduling.instanseg.facts import ModelUnusable


def archive(path: Path, *names: str, content: bytes = b"x") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name in names:
            out.writestr(name, content)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a bundle's model is written."""
    made = tmp_path / "work"
    made.mkdir()
    return made


def refusal(given: Path, folder: Path) -> str:
    with pytest.raises(ModelUnusable) as refused:
        torchscript_in(given, folder)
    assert list(folder.iterdir()) == []
    return str(refused.value)


def test_a_torchscript_file_is_taken_as_it_is(tmp_path: Path, folder: Path) -> None:
    given = archive(tmp_path / "mine.pt", "mine/data.pkl", "mine/constants.pkl", "mine/code/__torch__.py", "mine/version")
    assert torchscript_in(given, folder) == given


def test_of_a_bundle_the_one_model_is_unpacked_and_nothing_else(tmp_path: Path, folder: Path) -> None:
    names = ("brightfield/rdf.yaml", "brightfield/instanseg.pt", "brightfield/cover.png", "__MACOSX/brightfield/._instanseg.pt")
    file = torchscript_in(archive(tmp_path / "brightfield.zip", *names, content=b"the model"), folder)
    assert file.read_bytes() == b"the model"
    assert list(folder.iterdir()) == [file]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("a/rdf.yaml",), "holds no .pt files"),
        (("a/one.pt", "a/two.pt"), "holds 2 .pt files; a bundle has one"),
        (("../instanseg.pt",), "a name that leads out of it"),
        (("a/instanseg.pt", "/etc/passwd"), "a name that leads out of it"),
        (("a/instanseg.pt", "a\\..\\b"), "a name that leads out of it"),
        (("a/./instanseg.pt",), "a name that leads out of it"),
    ],
)
def test_other_archives_are_refused_with_the_reason(tmp_path: Path, folder: Path, names: tuple[str, ...], reason: str) -> None:
    assert reason in refusal(archive(tmp_path / "given.zip", *names), folder)


def test_a_link_in_an_archive_is_refused(tmp_path: Path, folder: Path) -> None:
    given = tmp_path / "given.zip"
    entry = zipfile.ZipInfo("a/instanseg.pt")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(given, "w") as out:
        out.writestr(entry, "/etc/passwd")
    assert "holds a link" in refusal(given, folder)


def test_what_would_grow_too_large_is_refused_before_it_does(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = archive(tmp_path / "bomb.zip", "a/instanseg.pt", content=bytes(3_000_000))
    assert given.stat().st_size < 10_000
    monkeypatch.setattr(bundles, "MAX_MODEL_BYTES", 2_000_000)
    assert "unpacks to more than" in refusal(given, folder)
    monkeypatch.setattr(bundles, "MAX_MODEL_BYTES", 1_000)
    assert "is larger than" in refusal(given, folder)


def test_an_archive_that_lies_about_its_sizes_gets_no_further_than_it_says(tmp_path: Path, folder: Path) -> None:
    given = archive(tmp_path / "liar.zip", "a/instanseg.pt", content=bytes(3_000_000))
    true, told = (3_000_000).to_bytes(4, "little"), (1_000).to_bytes(4, "little")
    given.write_bytes(given.read_bytes().replace(true, told))
    with pytest.raises(ModelUnusable, match="neither a TorchScript file nor"):
        torchscript_in(given, folder)
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 1_000


def test_what_is_no_archive_is_refused(tmp_path: Path, folder: Path) -> None:
    given = tmp_path / "weights.pt"
    given.write_bytes(b"\x80\x02 a pickle")
    assert "neither a TorchScript file nor a ZIP archive" in refusal(given, folder)
    cut = archive(tmp_path / "cut.zip", "a/instanseg.pt", content=b"x" * 1000)
    cut.write_bytes(cut.read_bytes()[:60])
    assert "neither a TorchScript file nor a ZIP archive" in refusal(cut, folder)


@pytest.mark.parametrize(("file", "name"), [("brightfield_nuclei.zip", "brightfield_nuclei"), ("mine.pt", "mine"), ("v1.2.pt", "v1.2")])
def test_a_model_is_called_as_its_file(file: str, name: str) -> None:
    assert suggested_name(Path("folder") / file) == name

"""Installed models: complete or not there, found by name or hash, unharmed by two writers or by what cannot be read."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from scheduling.instanseg.facts import ModelFacts
from scheduling.instanseg.store import ModelStore, is_model_name, is_sha256
from tests.support.models import facts_of


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """An empty store."""
    return ModelStore(tmp_path)


def added(store: ModelStore, tmp_path: Path, name: str, content: bytes, installed_at: str = "2026-01-01T00:00:00Z") -> ModelFacts:
    facts = facts_of("nuclei", file=content, name=name, installed_at=installed_at)
    file = tmp_path / "given.pt"
    file.write_bytes(content)
    store.add(file, facts)
    return facts


def test_nothing_is_installed_where_nothing_was(store: ModelStore) -> None:
    assert store.all() == []
    assert store.find("brightfield_nuclei") is None


def test_a_model_is_found_by_name_and_by_hash_with_its_file(store: ModelStore, tmp_path: Path) -> None:
    facts = added(store, tmp_path, "a", b"the model")
    assert store.find("a") == store.find(facts.sha256) == facts
    assert store.path(facts.sha256).read_bytes() == b"the model"
    assert [path.name for path in (tmp_path / "models").iterdir()] == [facts.sha256], "something was left over"


def test_models_come_by_name_and_the_newest_of_a_name_first(store: ModelStore, tmp_path: Path) -> None:
    old = added(store, tmp_path, "b", b"old", "2026-01-01T00:00:00Z")
    other = added(store, tmp_path, "a", b"other", "2026-01-02T00:00:00Z")
    new = added(store, tmp_path, "b", b"new", "2026-01-03T00:00:00Z")
    assert store.all() == [other, new, old]
    assert store.find("b") == new
    assert store.find(old.sha256) == old


def test_the_first_of_two_installations_stays_as_it_is(store: ModelStore, tmp_path: Path) -> None:
    first = added(store, tmp_path, "a", b"same", "2026-01-01T00:00:00Z")
    added(store, tmp_path, "b", b"same", "2026-01-02T00:00:00Z")
    assert store.all() == [first]


def test_many_at_once_leave_one_whole_model(store: ModelStore, tmp_path: Path) -> None:
    content = b"x" * 3_000_000
    facts = facts_of("nuclei", file=content, name="a")
    file = tmp_path / "given.pt"
    file.write_bytes(content)
    errors: list[OSError] = []

    def install() -> None:
        try:
            store.add(file, facts)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=install) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert store.path(facts.sha256).read_bytes() == content
    assert [path.name for path in (tmp_path / "models").iterdir()] == [facts.sha256]


def test_what_cannot_be_read_is_left_out(store: ModelStore, tmp_path: Path) -> None:
    good = added(store, tmp_path, "a", b"good")
    folder = tmp_path / "models"
    for name in ("0" * 64, "1" * 64, "not-a-hash", ".half"):
        (folder / name).mkdir()
    (folder / ("0" * 64) / "facts.json").write_text("{}")
    assert store.all() == [good]


@pytest.mark.parametrize("wrong", ["", "..", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n"])
def test_no_name_is_a_path(store: ModelStore, wrong: str) -> None:
    with pytest.raises(ValueError, match="is no SHA-256"):
        store.path(wrong)
    assert not is_sha256(wrong)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("a", True), ("brightfield_nuclei-0.1.1", True), ("", False), ("..", False), ("a/b", False), ("a b", False), ("a" * 65, False)],
)
def test_a_name_is_plain_and_cannot_be_taken_for_a_hash(store: ModelStore, tmp_path: Path, name: str, is_one: bool) -> None:
    assert is_model_name(name) == is_one
    assert not is_model_name("0" * 64)
    if not is_one:
        with pytest.raises(ValueError, match="is no name for a model"):
            added(store, tmp_path, name, b"x")

"""Whatever lies in a tile folder that is not a whole tile of this work is never taken for one, loose or packed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.tilestore.tilefiles import CorruptTile, FolderGone, MissingTile, TileFolder

TOTAL = 12
PAYLOADS = [f"payload {index} ".encode() * (index + 1) for index in range(TOTAL)]


def new_folder(parent: Path, name: str = "digest") -> TileFolder:
    """An empty folder, as the scheduler makes it."""
    (parent / name).mkdir(parents=True)
    return TileFolder(parent / name)


def publish_all(folder: TileFolder) -> TileFolder:
    """All tiles finished."""
    for index, payload in enumerate(PAYLOADS):
        folder.publish(index, payload)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> TileFolder:
    """All tiles finished."""
    return publish_all(new_folder(tmp_path))


def in_place_of(path: Path) -> Path:
    """The path, with nothing there."""
    path.unlink()
    return path


def another_index(path: Path, folder: TileFolder) -> None:
    shutil.copyfile(folder.tile_path(4), path)


def another_index_by_link(path: Path, folder: TileFolder) -> None:
    os.link(folder.tile_path(4), in_place_of(path))


def another_digest(path: Path, folder: TileFolder) -> None:
    other = publish_all(new_folder(folder.path.parent, "another"))
    shutil.copyfile(other.tile_path(3), path)


def a_folder(path: Path, folder: TileFolder) -> None:
    in_place_of(path).mkdir()
    (path / "3").write_bytes(b"x")


def a_link_to_a_good_tile(path: Path, folder: TileFolder) -> None:
    target = path.rename(folder.path.parent / "moved")
    path.symlink_to(target)


def a_link_to_nothing(path: Path, folder: TileFolder) -> None:
    in_place_of(path).symlink_to(folder.path / "nothing")


def a_pipe(path: Path, folder: TileFolder) -> None:
    os.mkfifo(in_place_of(path))


FOREIGN = (another_index, another_index_by_link, another_digest, a_folder, a_link_to_a_good_tile, a_link_to_nothing, a_pipe)


@pytest.mark.parametrize("put", FOREIGN)
def test_a_foreign_thing_under_a_tiles_name_is_not_finished_and_makes_room(
    folder: TileFolder, put: Callable[[Path, TileFolder], None]
) -> None:
    put(folder.tile_path(3), folder)
    with pytest.raises(CorruptTile):
        folder.read(3)
    assert list(folder.finished(TOTAL)) == [index for index in range(TOTAL) if index != 3]
    assert folder.publish(3, PAYLOADS[3])
    assert [folder.read(index) for index in range(TOTAL)] == PAYLOADS


@pytest.mark.parametrize("put", FOREIGN)
def test_publishing_replaces_what_is_foreign_under_the_name(folder: TileFolder, put: Callable[[Path, TileFolder], None]) -> None:
    put(folder.tile_path(3), folder)
    assert folder.publish(3, PAYLOADS[3])
    assert folder.read(3) == PAYLOADS[3]


@pytest.mark.parametrize("put", FOREIGN)
def test_a_foreign_thing_is_computed_again_rather_than_taken_as_done(folder: TileFolder, put: Callable[[Path, TileFolder], None]) -> None:
    put(folder.tile_path(3), folder)
    assert [folder.has(index) for index in (2, 3, 4)] == [True, False, True]
    assert not folder.tile_path(3).exists()


@pytest.mark.parametrize("name", ["007", "+7", "7 ", "７", "7.0", "-7", "1007", ".7.abc", "7~"])  # noqa: RUF001  (a digit of another script)
def test_a_name_that_is_no_index_of_its_thousand_is_no_tile(folder: TileFolder, name: str) -> None:
    folder.tile_path(7).rename(folder.tile_path(7).with_name(name))
    assert list(folder.finished(2000)) == [index for index in range(TOTAL) if index != 7]
    assert folder.named(2000) == [[0, 7], [8, TOTAL]]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_in_the_place_of_a_thousands_folder_makes_room(folder: TileFolder, kind: str) -> None:
    place = folder.path / "0"
    place.rename(folder.path.parent / "elsewhere")
    place.write_bytes(b"x") if kind == "file" else place.symlink_to(folder.path.parent / "elsewhere")
    assert list(folder.finished(TOTAL)) == []
    assert folder.publish(0, PAYLOADS[0])
    assert list(folder.finished(TOTAL)) == [0]


def test_a_damaged_part_is_made_again(folder: TileFolder) -> None:
    folder.publish_part("layout", b"{}")
    (folder.path / "layout").write_bytes(b"{}")
    with pytest.raises(MissingTile):
        folder.read_part("layout")
    assert folder.publish_part("layout", b"{}")
    assert folder.read_part("layout") == b"{}"


@pytest.mark.parametrize("name", ["0", "12", "0.pack", ".hidden"])
def test_a_part_may_not_have_the_name_of_tiles_or_packs(folder: TileFolder, name: str) -> None:
    with pytest.raises(ValueError, match="may not be called"):
        folder.publish_part(name, b"")


# -- packs


def test_packed_tiles_read_as_before_and_their_files_are_gone(folder: TileFolder) -> None:
    (folder.path / "0" / ".5.left-by-a-worker-that-died").write_bytes(b"half")
    folder.pack(0, TOTAL)
    assert [path.name for path in folder.path.iterdir()] == ["0.pack"]
    assert [folder.read(index) for index in range(TOTAL)] == PAYLOADS
    assert list(folder.finished(TOTAL)) == list(range(TOTAL))
    assert folder.named(TOTAL) == [[0, TOTAL]]
    assert folder.kept_bytes() == (folder.path / "0.pack").stat().st_size
    with pytest.raises(MissingTile):
        folder.read(TOTAL)


def test_packing_again_changes_nothing(folder: TileFolder) -> None:
    folder.pack(0, TOTAL)
    before = (folder.path / "0.pack").stat()
    assert not folder.has(TOTAL)
    folder.publish(3, PAYLOADS[3])
    folder.pack(0, TOTAL)
    after = (folder.path / "0.pack").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert [path.name for path in folder.path.iterdir()] == ["0.pack"]


def test_each_thousand_has_a_pack_of_its_own(tmp_path: Path) -> None:
    folder = new_folder(tmp_path)
    for index in (*range(999, 1002), *range(999), *range(1002, 2003)):
        folder.publish(index, str(index).encode())
    for number in range(3):
        folder.pack(number, 2003)
    assert sorted(path.name for path in folder.path.iterdir()) == ["0.pack", "1.pack", "2.pack"]
    assert list(folder.finished(2003)) == list(range(2003))
    assert [folder.read(index) for index in (0, 999, 1000, 1999, 2002)] == [b"0", b"999", b"1000", b"1999", b"2002"]


@pytest.mark.parametrize("lost", [0, 5, TOTAL - 1])
def test_a_thousand_with_a_missing_or_damaged_tile_is_not_packed_and_keeps_its_files(folder: TileFolder, lost: int) -> None:
    folder.tile_path(lost).write_bytes(b"damaged")
    with pytest.raises(CorruptTile):
        folder.pack(0, TOTAL)
    folder.tile_path(lost).unlink()
    for verify in (folder.pack, folder.check):
        with pytest.raises(MissingTile):
            verify(0, TOTAL)
    assert list(folder.finished(TOTAL)) == [index for index in range(TOTAL) if index != lost]
    assert not list(folder.path.glob("*pack*"))


def test_packing_in_a_folder_that_is_gone_says_so(tmp_path: Path) -> None:
    gone = TileFolder(tmp_path / "gone")
    with pytest.raises((FolderGone, MissingTile)):
        gone.pack(0, TOTAL)


def test_a_pack_of_another_work_or_another_thousand_is_not_taken(folder: TileFolder) -> None:
    other = publish_all(new_folder(folder.path.parent, "another"))
    other.pack(0, TOTAL)
    empty = new_folder(folder.path.parent, "empty")
    shutil.copyfile(other.path / "0.pack", empty.path / "0.pack")
    shutil.copyfile(other.path / "0.pack", other.path / "1.pack")
    assert list(empty.finished(TOTAL)) == []
    assert list(other.finished(2000)) == list(range(TOTAL))


def test_a_damaged_record_in_a_pack_costs_that_tile_alone(folder: TileFolder) -> None:
    folder.pack(0, TOTAL)
    pack = folder.path / "0.pack"
    data = bytearray(pack.read_bytes())
    data[data.index(PAYLOADS[5])] ^= 1
    pack.write_bytes(data)
    assert list(folder.finished(TOTAL)) == [index for index in range(TOTAL) if index != 5]
    with pytest.raises(CorruptTile):
        folder.read(5)
    assert folder.publish(5, PAYLOADS[5])
    folder.pack(0, TOTAL)
    assert [path.name for path in folder.path.iterdir()] == ["0.pack"]
    assert [folder.read(index) for index in range(TOTAL)] == PAYLOADS


@pytest.mark.parametrize("kind", [a_folder, a_link_to_nothing, a_pipe])
def test_what_is_no_file_under_a_packs_name_makes_room(folder: TileFolder, kind: Callable[[Path, TileFolder], None]) -> None:
    folder.pack(0, TOTAL)
    kind(folder.path / "0.pack", folder)
    assert list(folder.finished(TOTAL)) == []
    publish_all(folder).pack(0, TOTAL)
    assert [folder.read(index) for index in range(TOTAL)] == PAYLOADS


def test_a_tile_published_while_its_thousand_is_packed_is_published_all_the_same(
    folder: TileFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another job of the same work removes the folder between the making of the folder and the link."""
    link = os.link

    def link_after_packing(source: Path, target: Path) -> None:
        monkeypatch.undo()
        folder.pack(0, TOTAL)
        link(source, target)

    monkeypatch.setattr(os, "link", link_after_packing)
    assert folder.publish(3, PAYLOADS[3])
    assert list(folder.finished(TOTAL)) == list(range(TOTAL))


# -- at random


@pytest.fixture(scope="module")
def shelf() -> Iterator[Path]:
    """A folder with finished work, loose and packed, to copy from."""
    with tempfile.TemporaryDirectory() as parent:
        publish_all(new_folder(Path(parent) / "loose"))
        publish_all(new_folder(Path(parent) / "packed")).pack(0, TOTAL)
        yield Path(parent)


def damaged(data: bytes, kind: str, place: int, noise: bytes) -> bytes:
    """The bytes with something done to them; perhaps the same as before."""
    place %= len(data) + 1
    if kind == "cut":
        return data[:place]
    if kind == "overwrite":
        return data[:place] + noise + data[place + len(noise) :]
    if kind == "insert":
        return data[:place] + noise + data[place:]
    return data[:place] + data[place + len(noise) :]


DAMAGE = st.tuples(st.sampled_from(["cut", "overwrite", "insert", "remove"]), st.integers(0, 10**6), st.binary(min_size=1, max_size=40))


@given(kind=st.sampled_from(["loose", "packed"]), file=st.integers(0, TOTAL - 1), changes=st.lists(DAMAGE, min_size=1, max_size=3))
def test_whatever_is_done_to_a_file_only_true_tiles_are_finished_and_the_work_can_be_completed(
    shelf: Path, kind: str, file: int, changes: list[tuple[str, int, bytes]]
) -> None:
    with tempfile.TemporaryDirectory() as parent:
        shutil.copytree(shelf / kind, parent, dirs_exist_ok=True)
        folder = TileFolder(Path(parent) / "digest")
        path = folder.tile_path(file) if kind == "loose" else folder.path / "0.pack"
        data = path.read_bytes()
        for change in changes:
            data = damaged(data, *change)
        path.write_bytes(data)

        left = list(folder.finished(TOTAL))
        assert all(folder.read(index) == PAYLOADS[index] for index in left)
        for index in range(TOTAL):
            if not folder.has(index):
                folder.publish(index, PAYLOADS[index])
        folder.pack(0, TOTAL)
        assert [folder.read(index) for index in range(TOTAL)] == PAYLOADS
        assert [path.name for path in folder.path.iterdir()] == ["0.pack"]


@given(st.dictionaries(st.integers(0, TOTAL - 1), st.integers(0, TOTAL - 1)))
def test_tiles_that_changed_names_are_finished_only_where_they_kept_theirs(shelf: Path, moves: dict[int, int]) -> None:
    with tempfile.TemporaryDirectory() as parent:
        shutil.copytree(shelf / "loose", parent, dirs_exist_ok=True)
        folder = TileFolder(Path(parent) / "digest")
        for target, source in moves.items():
            shutil.copyfile(shelf / "loose" / "digest" / "0" / str(source), folder.tile_path(target))
        assert list(folder.finished(TOTAL)) == [index for index in range(TOTAL) if moves.get(index, index) == index]

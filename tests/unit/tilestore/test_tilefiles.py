"""Tile files: the first complete one wins, what is damaged does not count, an absent folder means that the job is gone."""

from __future__ import annotations

import itertools
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.tilestore.tilefiles import CorruptTile, FolderGone, TileFolder, from_ranges, to_ranges


@pytest.fixture
def folder(tmp_path: Path) -> TileFolder:
    """As the scheduler makes it."""
    path = tmp_path / "tiles" / "digest"
    path.mkdir(parents=True)
    return TileFolder(path)


def files(folder: TileFolder) -> list[str]:
    """Everything below the folder."""
    return sorted(str(file.relative_to(folder.path)) for file in folder.path.rglob("*") if file.is_file())


@pytest.mark.parametrize("payload", [b"", b"x", b"TILE" * 100, bytes(range(256)) * 40])
def test_a_published_tile_reads_back(folder: TileFolder, payload: bytes) -> None:
    assert folder.publish(1234, payload)
    assert folder.read(1234) == payload
    assert files(folder) == ["1/1234"]


def test_the_first_publisher_wins_and_its_file_never_changes(folder: TileFolder) -> None:
    assert folder.publish(0, b"first")
    assert not folder.publish(0, b"second")
    assert folder.read(0) == b"first"
    assert files(folder) == ["0/0"]


def test_of_many_who_publish_at_once_exactly_one_wins(folder: TileFolder) -> None:
    gate = threading.Barrier(8)
    won: list[int] = []

    def publish(number: int) -> None:
        gate.wait()
        if folder.publish(7, str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [str(number).encode() for number in won] == [folder.read(7)]
    assert files(folder) == ["0/7"]


def test_a_tile_that_was_never_published_is_not_there(folder: TileFolder) -> None:
    with pytest.raises(FileNotFoundError):
        folder.read(3)


DAMAGE = {
    "truncated in the payload": lambda data: data[:5],
    "truncated in the trailer": lambda data: data[:-1],
    "empty": lambda data: b"",
    "a bit has flipped": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "something was appended": lambda data: data + b"\0",
    "another program's file": lambda data: b"\x89PNG and much more than a trailer",
    "only zeros, as after a power cut": lambda data: b"\0" * len(data),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_not_finished_and_makes_room_for_a_good_one(folder: TileFolder, damage: object) -> None:
    for index in range(3):
        folder.publish(index, b"payload of a tile")
    path = folder.tile_path(1)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(CorruptTile):
        folder.read(1)
    assert list(folder.finished(3)) == [0, 2]
    assert folder.publish(1, b"again")
    assert list(folder.finished(3)) == [0, 1, 2]


def test_temporary_files_parts_and_tiles_beyond_the_total_are_not_finished_tiles(folder: TileFolder) -> None:
    for index in (0, 999, 1000, 2500):
        folder.publish(index, b"t")
    folder.publish_part("plan.json", b"{}")
    (folder.path / "0" / ".1.abc").write_bytes(b"half a til")
    assert list(folder.finished(2500)) == [0, 999, 1000]


def test_finished_tiles_come_in_the_order_of_their_index_across_folders(folder: TileFolder) -> None:
    for index in (10_000, 2, 10, 1_001, 9_999):
        folder.publish(index, b"t")
    assert list(folder.finished(20_000)) == [2, 10, 1_001, 9_999, 10_000]


def test_a_part_is_fixed_once_by_whoever_is_first(folder: TileFolder) -> None:
    assert folder.publish_part("threshold", b"0.5")
    assert not folder.publish_part("threshold", b"0.7")
    assert folder.read_part("threshold") == b"0.5"


def test_a_folder_that_is_gone_is_not_made_again(tmp_path: Path) -> None:
    gone = TileFolder(tmp_path / "tiles" / "gone")
    with pytest.raises(FolderGone):
        gone.publish(0, b"t")
    with pytest.raises(FolderGone):
        gone.publish_part("p", b"t")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_goes_between_writing_and_publishing_is_gone(folder: TileFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.publish(0, b"t")
    link = os.link

    def link_after_delete(source: Path, target: Path) -> None:
        folder.path.rename(folder.path.with_name("trash"))
        link(source, target)

    monkeypatch.setattr(os, "link", link_after_delete)
    with pytest.raises(FolderGone):
        folder.publish(1, b"t")


def test_a_full_disk_leaves_nothing_half_written(folder: TileFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="No space left"):
        folder.publish(0, b"t")
    assert files(folder) == []


@given(st.sets(st.integers(0, 5000)))
def test_ranges_say_the_same_as_the_indices(indices: set[int]) -> None:
    ranges = to_ranges(sorted(indices))
    assert list(from_ranges(ranges)) == sorted(indices)
    assert all(start < stop for start, stop in ranges)
    assert all(left[1] < right[0] for left, right in itertools.pairwise(ranges))


def test_ranges_are_half_open() -> None:
    assert to_ranges([0, 1, 2, 7]) == [[0, 3], [7, 8]]


@pytest.mark.parametrize("is_packed", [False, True])
def test_heads_and_payloads_are_of_what_is_there_loose_or_packed(folder: TileFolder, is_packed: bool) -> None:
    for index in range(1003):
        folder.publish(index, b"%06d" % index * 3)
    if is_packed:
        folder.pack(0, 1003)
    asked = [0, 7, 999, 1002, 5000]
    assert dict(folder.heads(asked, 5)) == {index: (b"%06d" % index)[:5] for index in asked[:4]}
    assert dict(folder.heads(asked, 500)) == dict(folder.payloads(asked)) == {index: b"%06d" % index * 3 for index in asked[:4]}
    assert folder.present(asked) == asked[:4]


def test_a_damaged_tile_has_a_head_but_no_payload(folder: TileFolder) -> None:
    for index in range(3):
        folder.publish(index, b"payload")
    path = folder.tile_path(1)
    path.write_bytes(b"X" + path.read_bytes()[1:])
    assert dict(folder.heads(range(3), 3)) == {0: b"pay", 1: b"Xay", 2: b"pay"}
    assert [index for index, _ in folder.payloads(range(3))] == [0, 2]
    assert folder.present([0, 1, 2, 3]) == [0, 1, 2]


def test_a_damaged_record_in_a_pack_is_left_out_of_the_payloads(folder: TileFolder) -> None:
    for index in range(5):
        folder.publish(index, b"payload")
    folder.pack(0, 5)
    pack = folder.pack_path(0)
    data = bytearray(pack.read_bytes())
    data[0] ^= 1
    pack.write_bytes(data)
    assert [index for index, _ in folder.payloads(range(5))] == [1, 2, 3, 4]


def test_a_pack_whose_table_is_damaged_or_absent_has_nothing(folder: TileFolder) -> None:
    assert (list(folder.heads([1], 5)), list(folder.payloads([1])), folder.present([1])) == ([], [], [])
    for index in range(5):
        folder.publish(index, b"payload")
    folder.pack(0, 5)
    folder.pack_path(0).write_bytes(b"nothing of a pack")
    assert (list(folder.heads([1], 5)), list(folder.payloads([1])), folder.present([1])) == ([], [], [])

"""Finished tiles on disk: the checkpoint of a job is the set of its finished tiles.

A tile is written to a temporary name and published by a link that fails when the name is taken: the first complete file wins
and never changes. When a job's artifacts are complete its tiles are packed, a thousand to a file. Jobs of one owner that do
the same work share a folder, also at the same time. The folder itself is made by the scheduler; a worker that finds it absent
takes the job as gone.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from scheduling.tilestore.packs import open_pack, write_pack
from scheduling.tilestore.records import (
    TRAILER_BYTES,
    CorruptTile,
    FolderGone,
    MissingTile,
    TilesLost,
    clear,
    opened,
    payload_of,
    put,
    read_at,
    read_file,
    seed_of,
    trailer,
)

__all__ = ["CorruptTile", "FolderGone", "MissingTile", "TileFolder", "TilesLost", "from_ranges", "index_digest", "to_ranges"]

TILES_A_FOLDER = 1000
#: Another job that packs the thousand may remove its folder as often while a tile is being published.
_TRIES = 5


class TileFolder:
    """The finished tiles of one piece of work, by index, and its named parts (the plan, parts of the result)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def tile_path(self, index: int) -> Path:
        """Where tile `index` is published."""
        return self.path / str(index // TILES_A_FOLDER) / str(index)

    def pack_path(self, number: int) -> Path:
        """Where the tiles from 1000 × `number` on are packed."""
        return self.path / f"{number}.pack"

    # -- publishing

    def publish(self, index: int, payload: bytes) -> bool:
        """Publish a finished tile; False when a complete one was there first. Raises FolderGone."""
        target = self.tile_path(index)
        for _ in range(_TRIES):
            self._make(target.parent)
            with suppress(FileNotFoundError, NotADirectoryError):
                return self._put(target, payload, index)
        raise FolderGone(str(target.parent))

    def publish_part(self, name: str, payload: bytes) -> bool:
        """Publish a named part (first one wins), for instance the constants that planning fixed once. Raises FolderGone."""
        if name.startswith(".") or name.isdigit() or name.endswith(".pack"):
            raise ValueError(f"a part may not be called {name!r}")
        try:
            return self._put(self.path / name, payload, name)
        except FileNotFoundError as error:
            raise FolderGone(str(self.path)) from error

    # -- reading

    def read(self, index: int) -> bytes:
        """The payload of a finished tile. Raises MissingTile (a FileNotFoundError) when not finished, CorruptTile when damaged."""
        return payload_of(self._record(index), self._seed(index), f"tile {index}")

    def read_part(self, name: str) -> bytes:
        """The payload of a named part; a damaged one is removed. Raises MissingTile."""
        path = self.path / name
        try:
            return payload_of(read_file(path), self._seed(name), path)
        except CorruptTile as error:
            clear(path)
            raise MissingTile(str(path)) from error

    def has(self, index: int) -> bool:
        """Whether the tile is finished. A damaged file of its name is removed."""
        try:
            self.read(index)
        except MissingTile:
            return False
        except CorruptTile:
            clear(self.tile_path(index))
            return False
        return True

    def finished(self, total: int) -> Iterator[int]:
        """Indices below `total` of the finished tiles, in order; damaged files are removed so that they are made again."""
        for number in range(thousands(total)):
            yield from self.finished_in(number, total)

    def finished_in(self, number: int, total: int) -> list[int]:
        """As `finished`, of one thousand."""
        found = set(self._packed(number))
        for index in self._names(number):
            if self._is_complete(index):
                found.add(index)
        return sorted(index for index in found if index < total)

    def named(self, total: int) -> list[list[int]]:
        """The tiles that are there by name, loose or in packs, as half-open ranges; their content is not looked at."""
        return to_ranges(index for number in range(thousands(total)) for index in self._named(number, total))

    def present(self, indices: Iterable[int]) -> list[int]:
        """Those of the tiles that are there by name, ascending; their content is not looked at."""
        wanted, found = set(indices), list[int]()
        for number in sorted({index // TILES_A_FOLDER for index in wanted}):
            found += [index for index in self._named(number, (number + 1) * TILES_A_FOLDER) if index in wanted]
        return found

    def payloads(self, indices: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """(index, payload) of finished tiles, in that order within a thousand but for packed ones, which come last.

        Those that are not there or damaged are left out. A pack is opened once for all its tiles.
        """
        for number, group in itertools.groupby(indices, key=lambda index: index // TILES_A_FOLDER):
            packed = list[int]()
            for index in group:
                try:
                    yield index, payload_of(read_file(f"{self.path}/{number}/{index}"), self._seed(index), index)
                except MissingTile:
                    packed.append(index)
                except CorruptTile:
                    continue
            yield from self._packed_payloads(number, packed)

    def heads(self, indices: Iterable[int], size: int) -> Iterator[tuple[int, bytes]]:
        """(index, first `size` bytes at most) of the payloads of finished tiles; those that are not there are left out.

        Nothing is verified, since that takes the whole record: who takes something from a head verifies what it takes.
        """
        for number, group in itertools.groupby(indices, key=lambda index: index // TILES_A_FOLDER):
            packed = list[int]()
            for index in group:
                try:
                    with opened(f"{self.path}/{number}/{index}") as (descriptor, length):
                        yield index, read_at(descriptor, min(size, max(0, length - TRAILER_BYTES)), 0)
                except MissingTile:
                    packed.append(index)
                except CorruptTile:
                    continue
            yield from self._packed_heads(number, packed, size)

    def kept_bytes(self) -> int:
        """Size of packs and parts."""
        with os.scandir(self.path) as entries:
            return sum(entry.stat(follow_symlinks=False).st_size for entry in entries if entry.is_file(follow_symlinks=False))

    # -- when the artifacts are complete

    def check(self, number: int, total: int) -> None:
        """Raises MissingTile when a tile of a thousand is not finished."""
        found, wanted = self.finished_in(number, total), _indices(number, total)
        if len(found) != len(wanted):
            raise MissingTile(f"tile {min(set(wanted) - set(found))}")

    def pack(self, number: int, total: int) -> None:
        """Move the tiles of a thousand into one file. Raises MissingTile, CorruptTile, FolderGone; then all is as before."""
        wanted = _indices(number, total)
        if not self._is_packed(number, wanted):
            self._write_pack(number, wanted)
        # With it goes what workers that died left behind. Whoever is publishing here makes the folder again.
        shutil.rmtree(self.path / str(number), ignore_errors=True)

    # -- inside

    def _seed(self, name: int | str) -> int:
        return seed_of(self.path.name, name)

    def _record(self, index: int) -> bytes:
        """A loose record as it is, else a packed one. A loose tile goes only after its pack has come."""
        try:
            return read_file(f"{self.path}/{index // TILES_A_FOLDER}/{index}")
        except MissingTile:
            number = index // TILES_A_FOLDER
            with open_pack(self.pack_path(number), self._seed(f"{number}.pack"), self._seed) as pack:
                if index not in pack.places:
                    raise
                return pack.record(index)

    def _packed_payloads(self, number: int, indices: list[int]) -> Iterator[tuple[int, bytes]]:
        if not indices:
            return
        with suppress(TilesLost), open_pack(self.pack_path(number), self._seed(f"{number}.pack"), self._seed) as pack:
            for index in indices:
                with suppress(CorruptTile, KeyError):
                    yield index, pack.record(index)[:-TRAILER_BYTES]

    def _packed_heads(self, number: int, indices: list[int], size: int) -> Iterator[tuple[int, bytes]]:
        if not indices:
            return
        with suppress(TilesLost), open_pack(self.pack_path(number), self._seed(f"{number}.pack"), self._seed) as pack:
            for index in indices:
                if index in pack.places:
                    offset, length = pack.places[index]
                    yield index, read_at(pack.descriptor, min(size, max(0, length - TRAILER_BYTES)), offset)

    def _is_complete(self, index: int) -> bool:
        try:
            payload_of(read_file(f"{self.path}/{index // TILES_A_FOLDER}/{index}"), self._seed(index), index)
        except MissingTile:
            return False
        except CorruptTile:
            clear(self.tile_path(index))
            return False
        return True

    def _names(self, number: int) -> Iterator[int]:
        """Indices of a thousand whose names are taken by loose files, in no order."""
        folder = self.path / str(number)
        if not _is_folder(folder):
            _remove_obstacle(folder)
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                # str(int(…)): "007" and digits of other scripts are names of nothing.
                if name.isascii() and name.isdigit() and str(int(name)) == name and int(name) // TILES_A_FOLDER == number:
                    yield int(name)

    def _named(self, number: int, total: int) -> list[int]:
        found = set(self._names(number))
        try:
            with open_pack(self.pack_path(number), self._seed(f"{number}.pack"), self._seed) as pack:
                found.update(pack.places)
        except TilesLost:
            pass
        return sorted(index for index in found if index < total)

    def _packed(self, number: int) -> list[int]:
        """Indices of the whole records in a pack; a pack whose table is damaged is removed."""
        path = self.pack_path(number)
        try:
            with open_pack(path, self._seed(path.name), self._seed) as pack:
                return [index for index in pack.good() if index // TILES_A_FOLDER == number]
        except MissingTile:
            return []
        except CorruptTile:
            clear(path)
            return []

    def _is_packed(self, number: int, wanted: range) -> bool:
        return self._packed(number) == list(wanted)

    def _write_pack(self, number: int, wanted: range) -> None:
        target = self.pack_path(number)
        temporary = _temporary(target)
        try:
            with temporary.open("wb") as file:
                write_pack(file, self._seed(target.name), ((index, self._verified(index)) for index in wanted))
            put(temporary, target, lambda: self._is_packed(number, wanted))
        except MissingTile:
            raise
        except FileNotFoundError as error:
            raise FolderGone(str(self.path)) from error
        finally:
            temporary.unlink(missing_ok=True)

    def _verified(self, index: int) -> bytes:
        record = self._record(index)
        payload_of(record, self._seed(index), f"tile {index}")
        return record

    def _make(self, folder: Path) -> None:
        if _is_folder(folder):
            return
        try:
            folder.mkdir()
        except FileNotFoundError as error:
            raise FolderGone(str(self.path)) from error
        except FileExistsError:
            # Made by another worker just now, or something that is no folder: publishing is tried again.
            _remove_obstacle(folder)

    def _put(self, target: Path, payload: bytes, name: int | str) -> bool:
        seed = self._seed(name)
        temporary = _temporary(target)
        try:
            with temporary.open("wb") as file:
                file.write(payload)
                file.write(trailer(payload, seed))
            return put(temporary, target, lambda: _is_record(target, seed))
        finally:
            temporary.unlink(missing_ok=True)


def thousands(total: int) -> int:
    """How many folders of a thousand so many tiles fill."""
    return -(-total // TILES_A_FOLDER)


def to_ranges(indices: Iterable[int]) -> list[list[int]]:
    """Ascending indices as half-open ranges, the form in which index sets travel: [0, 1, 2, 7] -> [[0, 3], [7, 8]]."""
    ranges: list[list[int]] = []
    for index in indices:
        if ranges and ranges[-1][1] == index:
            ranges[-1][1] = index + 1
        else:
            ranges.append([index, index + 1])
    return ranges


def index_digest(ranges: Iterable[Iterable[int]]) -> str:
    """SHA-256 (hex) of an index set, given as ascending half-open ranges: of the text "0-20,25-30"."""
    return hashlib.sha256(",".join(f"{start}-{stop}" for start, stop in ranges).encode()).hexdigest()


def from_ranges(ranges: Iterable[Iterable[int]]) -> Iterator[int]:
    """The indices of half-open ranges, in order."""
    for start, stop in ranges:
        yield from range(start, stop)


def _indices(number: int, total: int) -> range:
    return range(number * TILES_A_FOLDER, min((number + 1) * TILES_A_FOLDER, total))


def _is_record(path: Path, seed: int) -> bool:
    try:
        payload_of(read_file(path), seed, path)
    except TilesLost:
        return False
    return True


def _is_folder(path: Path) -> bool:
    """Whether it is a folder itself, not a link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _remove_obstacle(path: Path) -> None:
    """Remove a file or a link in the place of a folder; never a folder, which another worker may have made meanwhile."""
    with suppress(IsADirectoryError, PermissionError):
        path.unlink(missing_ok=True)


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid4().hex}")

"""One running job in the leader's memory: which tiles are finished, sent, waiting to be tried again. Facts only, no I/O."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

from scheduling.engine.messages import Kind
from scheduling.jobtypes.base import JobSpec
from scheduling.jobtypes.tilefiles import index_digest
from scheduling.states import JobState

TODO, SENT, DONE = 0, 1, 2
#: How fast the measured time of a tile follows the newest bundle.
EWMA_WEIGHT = 0.3


class Stage(StrEnum):
    """What a job needs next."""

    PLAN = "plan"
    TILES = "tiles"
    FINISH = "finish"


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """A job that this leader may dispatch: what the store says of it."""

    #: The job's key; orders by submission.
    job: int
    user: int
    weight: float
    workflow: UUID
    attempt: int
    epoch: int
    queue: str
    spec: JobSpec
    #: Simulated jobs that never ran need no planning; None = plan first.
    tiles_total: int | None
    batch: int = 1
    seconds_per_tile: float = 0.25
    #: Progress shown so far in this attempt; it never falls.
    tiles_processed: int = 0
    cancel_requested: bool = False


@dataclass(frozen=True, kw_only=True)
class End:
    """How a job ended, or (state PENDING) that it was taken back with its finished tiles."""

    job: int
    epoch: int
    state: JobState
    tiles_processed: int
    tiles_total: int | None
    #: Digest of the set of finished indices (`tilefiles.index_digest`).
    index_sha256: str = ""
    #: Why it was taken back.
    reason: str = ""
    error: str = ""
    traceback: str = ""
    warnings: tuple[str, ...] = ()
    artifacts: tuple[dict[str, Any], ...] = ()


@dataclass(kw_only=True)
class Entry:
    """A claimed job on its way through plan, tiles and finish."""

    claimed: Claimed
    stage: Stage = Stage.PLAN
    tiles_total: int | None = None
    batch: int = 1
    seconds_per_tile: float = 0.25
    #: One byte a tile: TODO, SENT or DONE.
    marks: bytearray = field(default_factory=bytearray)
    done: int = 0
    todo: int = 0
    #: No TODO tile lies below this index.
    cursor: int = 0
    #: Bundles under way.
    bundles: set[str] = field(default_factory=set)
    #: Tiles that the last bundle carried; the next carries at most twice as many.
    last_size: int = 0
    #: Tries that raised, by tile; None for planning and finishing.
    tries: dict[int | None, int] = field(default_factory=dict)
    #: Not to be sent before this time, by tile (None: the job's planning or finishing).
    not_before: dict[int | None, float] = field(default_factory=dict)
    #: Tiles that were with a worker process that died: each goes alone, to find the one that kills.
    alone: set[int] = field(default_factory=set)
    step: int = 0
    virtual_s: float = 0.0
    is_cancelled: bool = False
    #: Why the job is being taken back; "" while it may go on.
    yielding: str = ""
    warnings: list[str] = field(default_factory=list)
    end: End | None = None
    #: Progress shown so far in this attempt.
    shown: int = 0

    def __post_init__(self) -> None:
        self.shown = self.claimed.tiles_processed
        self.is_cancelled = self.claimed.cancel_requested
        self.seconds_per_tile, self.batch = self.claimed.seconds_per_tile, self.claimed.batch
        if self.claimed.tiles_total is not None:
            self.plan(self.claimed.tiles_total, ())

    @property
    def progress(self) -> int:
        """Tiles to show as processed: what is known to be finished, and never less than was shown before."""
        if self.tiles_total is not None:
            self.shown = min(max(self.done, self.shown), self.tiles_total)
        return self.shown

    @property
    def index_sha256(self) -> str:
        """Digest of the set of tiles known to be finished."""
        return index_digest(run.span() for run in re.finditer(b"\x02+", self.marks))

    @property
    def is_over(self) -> bool:
        """Nothing more is to be sent."""
        return self.is_decided or bool(self.yielding)

    @property
    def is_decided(self) -> bool:
        """What becomes of the job is settled."""
        return self.end is not None or self.is_cancelled

    def plan(self, tiles_total: int, finished: Iterable[int]) -> None:
        """Begin (again) with these tiles finished and nothing under way."""
        self.tiles_total, self.marks, self.cursor = tiles_total, bytearray(tiles_total), 0
        self.done, self.todo, self.step = 0, tiles_total, 0
        self.stage = Stage.TILES
        self.mark_done(finished)

    def mark_done(self, tiles: Iterable[int]) -> None:
        """These tiles are finished; the artifacts come next when all are."""
        for tile in tiles:
            if self.marks[tile] != DONE:
                self.todo -= self.marks[tile] == TODO
                self.marks[tile] = DONE
                self.done += 1
                self.alone.discard(tile)
                self.not_before.pop(tile, None)
        if self.done == self.tiles_total and self.stage is Stage.TILES:
            self.stage = Stage.FINISH

    def give_back(self, tiles: Iterable[int]) -> None:
        """These tiles came back unfinished."""
        for tile in tiles:
            if self.marks[tile] == SENT:
                self.marks[tile] = TODO
                self.todo += 1
                self.cursor = min(self.cursor, tile)

    def lose_all(self) -> None:
        """What is under way is lost, and perhaps outcomes too: look at the disk before anything else is sent."""
        self.bundles.clear()
        self.stage = Stage.PLAN

    def is_ready(self, now: float) -> bool:
        """Whether a bundle can be sent now."""
        if self.is_over:
            return False
        if self.stage is not Stage.TILES:
            return not self.bundles and self.not_before.get(None, 0.0) <= now
        return self.todo > sum(1 for tile, at in self.not_before.items() if tile is not None and at > now)

    def take(self, now: float, time_box_s: float, processes: int) -> tuple[int, ...]:
        """Mark the tiles of the next bundle as sent."""
        size = self._size(time_box_s, processes)
        tiles: list[int] = []
        index = self.cursor
        while len(tiles) < size and (index := self.marks.find(TODO, index)) >= 0:
            if self.not_before.get(index, 0.0) <= now:
                if index in self.alone and tiles:
                    break
                tiles.append(index)
                if index in self.alone:
                    break
            index += 1
        for tile in tiles:
            self.marks[tile] = SENT
        self.todo -= len(tiles)
        first = self.marks.find(TODO, self.cursor)
        self.cursor = first if first >= 0 else len(self.marks)
        self.last_size = len(tiles)
        return tuple(tiles)

    def measure(self, tiles: int, seconds: float) -> None:
        """Learn how long a tile takes."""
        self.seconds_per_tile += (seconds / tiles - self.seconds_per_tile) * (1.0 if self.last_size <= self.batch else EWMA_WEIGHT)

    def guess_s(self, kind: Kind, tiles: int, time_box_s: float) -> float:
        """Worker-seconds that a bundle will probably take."""
        return tiles * self.seconds_per_tile if kind is Kind.TILES else time_box_s

    def _size(self, time_box_s: float, processes: int) -> int:
        """Tiles of the next bundle: what fits the time box, at most twice the last, at the end shared by all processes."""
        fitting = time_box_s / max(self.seconds_per_tile, 1e-6)
        share = math.ceil(self.todo / max(processes, 1))
        size = min(fitting, 2 * max(self.last_size, self.batch) if self.last_size else self.batch, share)
        return max(1, math.floor(size / self.batch)) * self.batch

    def finish_as(self, state: JobState, *, error: str = "", traceback: str = "", artifacts: tuple[dict[str, Any], ...] = ()) -> None:
        """Decide how the job ends (PENDING: is taken back); it is reported when nothing of it is under way any more."""
        self.end = End(
            job=self.claimed.job,
            epoch=self.claimed.epoch,
            state=state,
            tiles_processed=self.progress,
            tiles_total=self.tiles_total,
            reason=self.yielding if state == JobState.PENDING else "",
            error=error,
            traceback=traceback,
            warnings=tuple(self.warnings),
            artifacts=artifacts,
        )

"""One running job in the leader's memory: which tiles are finished, sent, waiting to be tried again. Facts only, no I/O."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

from scheduling.jobtypes.base import JobSpec
from scheduling.protocol.messages import Bundle, Kind, Outcome, Planned
from scheduling.states import JobState
from scheduling.tilestore.tilefiles import from_ranges, index_digest

TODO, SENT, DONE = 0, 1, 2
#: A bundle, or a job, is stuck when it takes so many times longer than expected.
PATIENCE = 10
#: Time between two looks counts at most as this much: when the leader itself was stopped or late, so was everything else.
LOOK_AT_MOST_S = 5.0
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
    #: Seconds that planning, and one step of finishing, are expected to take at most.
    plan_s: float = 1.0
    step_s: float = 1.0
    #: Seconds that it may run in one attempt (None: no limit), and how long it has run before now.
    timeout_s: float | None = None
    ran_s: float = 0.0
    #: Tries that raised before this claim, by tile; None for planning and finishing.
    tries: Mapping[int | None, int] = field(default_factory=dict)
    #: For how long the disk has refused it; None when it has not.
    refused_for_s: float | None = None
    #: Fraction of its tiles at which it begins: jobs of the same work that run at the same time begin in different places.
    begins_at: float = 0.0


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
    #: Not to be claimed again before so many seconds have passed; 0 = at once. And what it waits for, in one word or a few.
    retry_in_s: float = 0.0
    retry_reason: str = ""
    tries: Mapping[int | None, int] = field(default_factory=dict)
    refused_for_s: float | None = None
    error: str = ""
    traceback: str = ""
    warnings: tuple[str, ...] = ()
    artifacts: tuple[dict[str, Any], ...] = ()
    #: The artifacts are those of the same work done before.
    cached: bool = False
    #: What stays on the disk; None = not told.
    disk_bytes: int | None = None


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
    #: Where a survey goes on that takes more than one bundle, and what it has found so far, as half-open ranges.
    look_at: int = 0
    found: tuple[tuple[int, int], ...] = ()
    virtual_s: float = 0.0
    is_cancelled: bool = False
    #: Nothing is sent before this time, because the disk refused, and why; since when it has, with nothing finished in between.
    held_until: float = float("-inf")
    refusal: str = ""
    refused_since: float | None = None
    #: The last thing that raised.
    trouble: str = ""
    #: When this claim began, when it was last looked at, and for how long bundles were under way of which nothing came.
    claimed_at: float = 0.0
    looked_at: float = 0.0
    stalled_s: float = 0.0
    #: Why the job is being taken back; "" while it may go on.
    yielding: str = ""
    warnings: list[str] = field(default_factory=list)
    end: End | None = None
    #: Progress shown so far in this attempt.
    shown: int = 0
    #: Tiles that workers have finished under this claim, and how many a second over the last of them (`reporting`).
    computed: int = 0
    tiles_per_s: float | None = None

    def __post_init__(self) -> None:
        self.shown = self.claimed.tiles_processed
        self.is_cancelled = self.claimed.cancel_requested
        self.seconds_per_tile, self.batch = self.claimed.seconds_per_tile, self.claimed.batch
        self.looked_at, self.tries = self.claimed_at, dict(self.claimed.tries)
        self.alone = {tile for tile in self.tries if tile is not None}
        if self.claimed.refused_for_s is not None:
            self.refused_since = self.claimed_at - self.claimed.refused_for_s
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

    @property
    def is_suspect(self) -> bool:
        """Some of its tiles were with a worker process that died: its bundles share no parcel with those of others."""
        return bool(self.alone)

    def plan(self, tiles_total: int, finished: Iterable[int]) -> None:
        """Begin (again) with these tiles finished and nothing under way."""
        self.tiles_total, self.marks, self.cursor = tiles_total, bytearray(tiles_total), 0
        self.done, self.todo, self.step = 0, tiles_total, 0
        self.stage = Stage.TILES
        self.mark_done(finished)

    def take_survey(self, bundle: Bundle, plan: Planned, next_step: int | None) -> None:
        """Take in a part of a survey; begin with what it has found when it was the last."""
        self.found = (*(self.found if bundle.step else ()), *plan.finished)
        self.look_at = next_step or 0
        if next_step is None:
            self.batch, self.seconds_per_tile = plan.batch, plan.seconds_per_tile
            self.plan(plan.tiles_total, from_ranges((start, min(stop, plan.tiles_total)) for start, stop in self.found))

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
        if self.is_over or now < self.held_until:
            return False
        if self.refused_since is not None and self.bundles:
            return False  # one bundle finds out whether the disk is well again
        if self.stage is not Stage.TILES:
            return not self.bundles and self.not_before.get(None, 0.0) <= now
        return self.todo > sum(1 for tile, at in self.not_before.items() if tile is not None and at > now)

    def waits_until(self, now: float) -> float | None:
        """When there is something to send again, if nothing is under way and nothing can be sent now; else None."""
        if self.is_over or self.bundles or self.is_ready(now):
            return None
        return self.held_until if now < self.held_until else min((at for at in self.not_before.values() if at > now), default=None)

    def has_progressed(self) -> None:
        """A tile or a step came to its end."""
        self.stalled_s, self.refused_since = 0.0, None

    def look(self, now: float) -> None:
        """Count the time for which bundles are under way without anything coming of them."""
        if self.bundles:
            self.stalled_s += min(now - self.looked_at, LOOK_AT_MOST_S)
        self.looked_at = now

    def overrun(self, no_progress_s: float) -> str:
        """Why the job must end, as of the last look; "" while it may go on."""
        limit_s = self.claimed.timeout_s
        if limit_s is not None and self.claimed.ran_s + self.looked_at - self.claimed_at > limit_s:
            return f"ran longer than its timeout_s of {limit_s:g} s"
        patience_s = max(no_progress_s, PATIENCE * self.seconds_per_tile * self.batch)
        return f"nothing came to its end for {patience_s:.0f} s" if self.stalled_s > patience_s else ""

    def limit_s(self, kind: Kind, time_box_s: float, least_s: float) -> float:
        """For how long a bundle's process may do nothing before it is taken for stuck: ten times what is expected until its next tile ends."""
        expected = {
            Kind.PLAN: self.claimed.plan_s,
            Kind.TILES: time_box_s + self.seconds_per_tile * self.batch,
            Kind.FINISH: time_box_s + self.claimed.step_s,
        }[kind]
        limit_s = max(least_s, PATIENCE * expected)
        if self.claimed.timeout_s is None:
            return limit_s
        return min(limit_s, max(1.0, self.claimed.timeout_s - self.claimed.ran_s - (self.looked_at - self.claimed_at)))

    def take(self, now: float, time_box_s: float, processes: int) -> tuple[int, ...]:
        """Mark the tiles of the next bundle as sent."""
        size = self._size(time_box_s, processes)
        tiles: list[int] = []
        for index in self._todo():
            if self.not_before.get(index, 0.0) <= now:
                if index in self.alone and tiles:
                    break
                tiles.append(index)
                if index in self.alone or len(tiles) >= size:
                    break
        for tile in tiles:
            self.marks[tile] = SENT
        self.todo -= len(tiles)
        first = self.marks.find(TODO, self.cursor)
        self.cursor = first if first >= 0 else len(self.marks)
        self.last_size = len(tiles)
        return tuple(tiles)

    def _todo(self) -> Iterator[int]:
        """Tiles to be sent, in order from where this job begins; those before it come last."""
        begin = max(self.cursor, int(self.claimed.begins_at * len(self.marks)))
        for index, end in ((begin, len(self.marks)), (self.cursor, begin)):
            while (index := self.marks.find(TODO, index, end)) >= 0:
                yield index
                index += 1

    def measure(self, tiles: int, seconds: float) -> None:
        """Learn how long a tile takes."""
        self.computed += tiles
        self.seconds_per_tile += (seconds / tiles - self.seconds_per_tile) * (1.0 if self.last_size <= self.batch else EWMA_WEIGHT)

    def expected_s(self, time_box_s: float, processes: int) -> float:
        """Worker-seconds that the next bundle will probably take."""
        return self._size(time_box_s, processes) * self.seconds_per_tile if self.stage is Stage.TILES else time_box_s

    def guess_s(self, kind: Kind, tiles: int, time_box_s: float) -> float:
        """Worker-seconds that a bundle will probably take."""
        return tiles * self.seconds_per_tile if kind is Kind.TILES else time_box_s

    def _size(self, time_box_s: float, processes: int) -> int:
        """Tiles of the next bundle: what fits the time box, at most twice the last, at the end shared by all processes."""
        fitting = time_box_s / max(self.seconds_per_tile, 1e-6)
        share = math.ceil(self.todo / max(processes, 1))
        size = min(fitting, 2 * max(self.last_size, self.batch) if self.last_size else self.batch, share)
        return max(1, math.floor(size / self.batch)) * self.batch

    def finish_as(self, state: JobState, *, error: str = "", traceback: str = "", complete: Outcome | None = None) -> None:
        """Decide how the job ends (PENDING: is taken back); it is reported when nothing of it is under way any more."""
        self.end = End(
            job=self.claimed.job,
            epoch=self.claimed.epoch,
            state=state,
            tiles_processed=self.progress,
            tiles_total=self.tiles_total,
            reason=self.yielding if state == JobState.PENDING else "",
            tries=self.tries,
            error=error,
            traceback=traceback,
            warnings=tuple(self.warnings),
            artifacts=(complete and complete.artifacts) or (),
            index_sha256=index_digest(complete.found) if complete and complete.found is not None else "",
            # Only planning that found the whole work done has artifacts to tell of.
            cached=complete is not None and complete.plan is not None,
            disk_bytes=complete.disk_bytes if complete else None,
        )

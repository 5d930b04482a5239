"""The workers of one queue of the simulation: processes that take parcels in order, work to the end of their bundles, and sometimes die."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from scheduling.engine.ledger import Dispatch
from scheduling.protocol.messages import Kind, Outcome, Planned
from scheduling.simulator.books import SimJob

#: What planning and finishing take.
STEP_S = 0.01


@dataclass(frozen=True, kw_only=True)
class Work:
    """A bundle on a process: when it began, when it will be done, which tiles it will have finished."""

    dispatch: Dispatch
    job: SimJob
    began_s: float
    done_s: float
    tiles: tuple[int, ...]

    def outcome(self) -> Outcome:
        """What the worker reports."""
        bundle = self.dispatch.bundle
        base = {"bundle": bundle.id, "job": bundle.spec.id, "epoch": bundle.epoch}
        seconds = self.done_s - self.began_s
        if bundle.kind is Kind.PLAN:
            plan = self.job.plan
            found = tuple(self.job.ranges())
            planned = Planned(tiles_total=plan.tiles, batch=1, seconds_per_tile=plan.seconds_per_tile, finished=found)
            return Outcome(**base, seconds=seconds, plan=planned)  # type: ignore[arg-type]
        if bundle.kind is Kind.TILES:
            return Outcome(**base, seconds=seconds, done=self.tiles)  # type: ignore[arg-type]
        return Outcome(**base, seconds=seconds, artifacts=(), found=tuple(self.job.ranges()))  # type: ignore[arg-type]


class Machine:
    """Processes and the queue before them. Parcels of high priority overtake; the bundles of one are worked on one after the other."""

    def __init__(self, processes: int, spread: float, random: Random) -> None:
        self.alive = processes
        #: Bundles of parcels that processes have taken, by id.
        self.working: dict[str, Work] = {}
        self._queue: tuple[deque[list[Dispatch]], deque[list[Dispatch]]] = (deque(), deque())
        self._spread, self._random = spread, random
        #: Worker-seconds by user, of bundles that came to their end or died.
        self.used: dict[int, float] = {}

    def put(self, dispatch: Dispatch) -> None:
        """A bundle arrives in the queue, behind those of its parcel that came before it."""
        queue = self._queue[0 if dispatch.is_first else 1]
        if queue and queue[-1][0].parcel == dispatch.parcel:
            queue[-1].append(dispatch)
        else:
            queue.append([dispatch])

    def held(self) -> frozenset[str]:
        """Parcels that wait or are worked on."""
        return frozenset(self._taken()) | {parcel[0].parcel for queue in self._queue for parcel in queue}

    @property
    def busy(self) -> int:
        """Processes at work."""
        return len(self._taken())

    def _taken(self) -> dict[str, list[str]]:
        """Bundles still worked on, by parcel."""
        taken: dict[str, list[str]] = {}
        for bundle, work in self.working.items():
            taken.setdefault(work.dispatch.parcel, []).append(bundle)
        return taken

    def start(self, now: float, job_of: Callable[[int], SimJob]) -> Iterator[Work]:
        """Give what waits to idle processes."""
        for queue in self._queue:
            while queue and self.busy < self.alive:
                begins_s = now
                for dispatch in queue.popleft():
                    work = self._work(dispatch, job_of(dispatch.claimed.job), begins_s)
                    self.working[dispatch.bundle.id] = work
                    begins_s = work.done_s
                    yield work

    def _work(self, dispatch: Dispatch, job: SimJob, now: float) -> Work:
        bundle = dispatch.bundle
        if bundle.kind is not Kind.TILES:
            return Work(dispatch=dispatch, job=job, began_s=now, done_s=now + STEP_S, tiles=())
        tile_s = job.plan.seconds_per_tile * (1 + self._spread * (2 * self._random.random() - 1))
        # A worker stops at the first tile border after its time box.
        count = min(len(bundle.tiles), int(bundle.time_box_s / tile_s) + 1) if tile_s > 0 else len(bundle.tiles)
        return Work(dispatch=dispatch, job=job, began_s=now, done_s=now + count * tile_s, tiles=bundle.tiles[:count])

    def finish(self, bundle: str) -> Work | None:
        """A bundle comes to its end; None when its process died before."""
        work = self.working.pop(bundle, None)
        if work is not None:
            self._charge(work, work.done_s)
            for tile in work.tiles:
                work.job.done[tile] = 1
        return work

    def die(self, processes: int, now: float) -> int:
        """So many processes are gone, with what they hold; tiles finished by then lie on the disk. How many there were."""
        gone = min(processes, self.alive)
        self.alive -= gone
        taken = self._taken()
        for parcel in self._random.sample(list(taken), max(0, len(taken) - self.alive)):
            for bundle in taken[parcel]:
                self._break_off(self.working.pop(bundle), now)
        return gone

    def _break_off(self, work: Work, now: float) -> None:
        """Its process has died; nothing was done of a bundle that had not begun."""
        spent_s = max(0.0, now - work.began_s)
        self._charge(work, work.began_s + spent_s)
        share = spent_s / (work.done_s - work.began_s) if work.done_s > work.began_s else 0.0
        for tile in work.tiles[: int(share * len(work.tiles))]:
            work.job.done[tile] = 1

    def lose_queue(self) -> None:
        """Bundles of a leader that is no more are worked on for nobody; those that wait are dropped."""
        for queue in self._queue:
            queue.clear()

    def used_by(self, user: int, now: float) -> float:
        """Worker-seconds of a user so far, those of bundles under way included."""
        under_way = sum(max(0.0, min(now, work.done_s) - work.began_s) for work in self.working.values() if work.job.user == user)
        return self.used.get(user, 0.0) + under_way

    def _charge(self, work: Work, until: float) -> None:
        self.used[work.job.user] = self.used.get(work.job.user, 0.0) + until - work.began_s

"""When a bundle is stuck. Pure: fed with what its process has used up to now, and for how long that was looked at.

The clock on the wall says nothing: on a busy machine everything takes long. A process is at work as long as it uses a CPU, waits
for one, or reads and writes; so only a process that does none of that stands still.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

#: What a process must use of the time, to count as moving: less is the ticking of idle threads.
SHARE = 0.01
#: And at least so much: the system counts in hundredths of a second.
LEAST_CPU_S = 0.05
#: A bundle may compute so many times its limit of stillness, in seconds of CPU: no tile takes that, but a loop without end does.
BURN = 30
#: For so long a bundle goes on of which nobody wants the outcome any more: enough for the end of most tiles.
UNWANTED_S = 10.0


class Verdict(StrEnum):
    """Why a process is ended in the middle of a bundle."""

    #: Nothing moves, and nothing explains it: the fault of the tile, most likely.
    STILL = "still"
    #: It has computed for ever.
    BURNT = "burnt"
    #: Nothing moves, as a disk does not answer.
    DISK = "disk"
    #: Somebody has stopped the process (SIGSTOP).
    STOPPED = "stopped"
    #: The job has ended meanwhile, or the worker stops.
    UNWANTED = "unwanted"


@dataclass(frozen=True, kw_only=True)
class Vitals:
    """What a process and its helpers have used since they began."""

    cpu_s: float
    #: Ready to run, but there was no CPU free; 0 where the system does not tell.
    waited_s: float = 0.0
    #: Bytes read and written, and pages brought back from the disk.
    io: int = 0
    is_stopped: bool = False
    is_at_disk: bool = False

    @property
    def used_s(self) -> float:
        """What was used of a CPU, or would have been."""
        return self.cpu_s + self.waited_s


class Stillness:
    """What is known of one bundle. Time is what was observed: nobody stands still while nobody looks."""

    def __init__(self, limit_s: float, vitals: Vitals) -> None:
        self._limit_s = limit_s
        self._began = self._moved = vitals
        self.still_s = self.unwanted_s = 0.0

    def look(self, vitals: Vitals, passed_s: float, *, is_wanted: bool = True) -> Verdict | None:
        """Take in what it has used after so much more observed time; a verdict when it is to be ended."""
        self.still_s += passed_s
        self.unwanted_s = 0.0 if is_wanted else self.unwanted_s + passed_s
        if self._has_moved(vitals):
            self._moved, self.still_s = vitals, 0.0
        elif vitals.used_s < self._moved.used_s:  # a thread has ended, and what it had waited is not told any more
            self._moved = replace(vitals, io=self._moved.io, is_stopped=self._moved.is_stopped)
        return self._verdict(vitals)

    def _has_moved(self, vitals: Vitals) -> bool:
        before = self._moved
        if vitals.io != before.io or vitals.is_stopped != before.is_stopped:
            return True
        return vitals.used_s - before.used_s > max(LEAST_CPU_S, SHARE * self.still_s)

    def _verdict(self, vitals: Vitals) -> Verdict | None:
        if self.unwanted_s > UNWANTED_S:
            return Verdict.UNWANTED
        if vitals.cpu_s - self._began.cpu_s > BURN * self._limit_s:
            return Verdict.BURNT
        if self.still_s <= self._limit_s:
            return None
        return Verdict.STOPPED if vitals.is_stopped else Verdict.DISK if vitals.is_at_disk else Verdict.STILL

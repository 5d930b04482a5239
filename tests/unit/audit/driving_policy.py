"""Right logs by chance: the real policy decides what a made-up crowd of users, workers and leaders does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from scheduling.engine.policy import Decisions, Head, Limits, Running, Slot, Snapshot, Waiting, decide
from scheduling.states import FINISHED_WORKFLOW, UNFINISHED, JobState
from tests.unit.audit.story import C, F, S, Story, ToldJob
from tests.unit.engine.making import CPU

#: Jobs of a workflow, as `Story.submit` reads them.
SHAPES: Sequence[tuple[str, ...]] = (
    ("a x",),
    ("a x", "b x", "c y"),
    ("a x", "b y a", "c x"),
    ("a x", "b y", "c z"),
    ("gpu x",),
    ("a x", "gpu x", "c x"),
    ("gpu x", "b y gpu"),
    ("gpu1 x", "b y", "gpu2 z"),
)
SCOPES = ("workflow", "user")
#: What may happen, each with a number that says to whom.
MOVES = ("submit", "end", "fail", "back", "cancel", "retry", "pause", "resume", "leader", "time", "workers")
#: Queues that workers serve.
SERVED = (frozenset({"cpu"}), frozenset({"cpu", "gpu"}), frozenset({"gpu"}), frozenset[str]())


class Crowd:
    """Users who submit, cancel, retry and pause, and workers that end what runs."""

    def __init__(self, **limits: float) -> None:
        self.story = Story(**limits)
        self.limits = Limits(
            max_workers=int(self.story.limits["max_workers"]),
            max_active_users=int(self.story.limits["max_active_users"]),
            queues=CPU,
            slot_max_s=float(self.story.limits["slot_max_s"]),
        )
        self.yielding: dict[int, ToldJob] = {}

    def move(self, kind: str, number: int) -> None:
        """Let something happen, then let the leader look until nothing more is decided."""
        if kind == "submit":
            self.story.submit(number % 4 + 1, *SHAPES[number // 4 % 8], scope=SCOPES[number // 32 % 2])
        elif kind == "workers":
            self.have_workers(SERVED[number % 4], is_patient=number // 4 % 2 == 0)
        elif kind == "leader":
            self._change_leader()
        elif kind == "time":
            self.story.wait(float(number))
        else:
            self._to_one(kind, number)
        self.settle()

    def have_workers(self, served: frozenset[str], *, is_patient: bool) -> None:
        """Slots are given for the work of those that are there, and of those that went a short while ago."""
        expected = served | self.limits.expected if is_patient or not served else served
        if expected != self.limits.expected:
            self.story.expect(*expected)
        self.limits = replace(self.limits, queues=served, expected=expected)

    def settle(self) -> None:
        """Pass until nothing more is decided."""
        while self._pass():
            pass

    def run_out(self) -> None:
        """Let everything go on, and end it."""
        for flow in self.story.flows:
            if flow.is_paused and flow.status not in FINISHED_WORKFLOW:
                self.story.pause(flow, paused=False)
        self.have_workers(SERVED[1], is_patient=True)
        self.settle()
        while any(job.state in UNFINISHED for job in self.story.jobs()):
            self.move("end", 0)
            self.story.wait(5.0)
            self.settle()

    # -- what happens

    def _to_one(self, kind: str, number: int) -> None:
        story = self.story
        running = [job for job in story.jobs() if job.state is JobState.RUNNING]
        found = {
            "end": running,
            "fail": running,
            "back": [job for job in running if not job.cancel_requested],
            "cancel": [job for job in story.jobs() if job.state in UNFINISHED and not job.cancel_requested],
            "retry": [job for job in story.jobs() if job.state in {F, C} and not job.flow.is_paused],
            "pause": [job for job in story.jobs() if job.state in UNFINISHED and not job.flow.is_paused],
            "resume": [job for job in story.jobs() if job.state in UNFINISHED and job.flow.is_paused],
        }[kind]
        if not found:
            return
        job = found[number % len(found)]
        if kind in {"end", "fail", "back"}:
            self._end(job, kind, number)
        elif kind == "cancel":
            story.cancel(job)
        elif kind == "retry":
            story.retry(job)
        else:
            story.pause(job.flow, paused=kind == "pause")

    def _end(self, job: ToldJob, kind: str, number: int = 0) -> None:
        self.yielding.pop(job.order, None)
        if kind == "back" and not job.cancel_requested:
            self.story.take_back(job, max(job.tiles, number % job.total), retry_in_s=number % 3 * 4.0 or None)
        else:
            self.story.finish(job, C if job.cancel_requested else F if kind == "fail" else S)

    def _change_leader(self) -> None:
        self.story.elect()
        self.yielding.clear()
        for job in self.story.jobs():
            if job.state is JobState.RUNNING:
                self.story.take_over(job)

    # -- the leader's look

    def _pass(self) -> bool:
        self.story.wait(0.01)
        for job in list(self.yielding.values()):
            self._end(job, "back")
        decisions = decide(self._snapshot(), self.limits, self.story.now)
        self._slots(decisions)
        by_order = {job.order: job for job in self.story.jobs()}
        for claim in decisions.claim:
            self._claim(by_order[claim.job])
        self.yielding |= {preemption.job: by_order[preemption.job] for preemption in decisions.preempt}
        return any((decisions.release, decisions.requeue, decisions.admit, decisions.claim, decisions.preempt))

    def _slots(self, decisions: Decisions) -> None:
        for user in decisions.release:
            if self.story.open_jobs(user):
                self.story.release_stuck(user)
            else:
                self.story.release(user)
        for user in decisions.requeue:
            self.story.requeue(user)
        for user in decisions.admit:
            self.story.admit(user, after_s=0.0)

    def _claim(self, job: ToldJob) -> None:
        needs = [job.flow[name].state for name in job.needs]
        if any(state is not S for state in needs):
            self.story.give_up(job)
        else:
            self.story.start(job)

    def _snapshot(self) -> Snapshot:
        story = self.story
        running = [job for job in story.jobs() if job.state is JobState.RUNNING]
        return Snapshot(
            slots=tuple(Slot(user=user, since=since, can_run=self._can_run(user)) for user, since in story.slots.items()),
            waiting=tuple(Waiting(user=user, since=since) for user, since in story.queue.items() if self._can_run(user)),
            running=tuple(
                Running(
                    job=job.order,
                    user=job.flow.user,
                    lane=job.lane,
                    epoch=job.epoch,
                    is_paused=job.flow.is_paused,
                    queue=job.queue,
                    is_yielding=job.order in self.yielding,
                )
                for job in running
            ),
            heads=tuple(self._heads({job.lane for job in running})),
        )

    def _can_run(self, user: int) -> bool:
        """Something of the user is first in its lane, needs nothing unfinished, is not paused, and of an expected queue."""
        seen: set[str] = set()
        for job in self.story.jobs():
            if job.flow.user == user and job.state in UNFINISHED and job.lane not in seen:
                seen.add(job.lane)
                is_blocked = any(job.flow[name].state in UNFINISHED for name in job.needs)
                if not (job.flow.is_paused or is_blocked) and job.queue in self.limits.expected:
                    return True
        return False

    def _heads(self, busy: set[str]) -> list[Head]:
        heads = []
        for job in self.story.jobs():
            if job.state is not JobState.PENDING or job.lane in busy:
                continue
            busy.add(job.lane)
            is_later = job.not_before is not None and job.not_before > self.story.now
            is_blocked = any(job.flow[name].state in UNFINISHED for name in job.needs)
            if not (job.flow.is_paused or is_later or is_blocked):
                heads.append(Head(job=job.order, user=job.flow.user, lane=job.lane, queue=job.queue))
        return heads

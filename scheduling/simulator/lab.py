"""Lets a scenario happen: events in order of virtual time, a pass of the leader whenever the product would make one."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from random import Random
from typing import Any

from scheduling.engine.config import EngineConfig
from scheduling.engine.entry import Claimed, End
from scheduling.engine.ledger import Ledger
from scheduling.engine.policy import Decisions, ExpectedQueues, Limits, decide
from scheduling.simulator.books import Books, SimJob, at
from scheduling.simulator.figures import Figures, Meter
from scheduling.simulator.machine import Machine
from scheduling.simulator.scenario import Scenario, Submission
from scheduling.simulator.story import Story, Write
from scheduling.states import JobState
from scheduling.tilestore.tilefiles import index_digest

#: A message's way from a worker to the leader.
WAY_S = 0.003
TICK_S = 1.0
#: Two looks are never at the same moment: by their moments the log tells what was decided together.
LOOK_S = 1e-6
#: The product finds a worker silent when its heartbeat has expired.
SILENT_S = 5.0


class Lab:
    """One run. `write` gets the event log; without it none is made."""

    def __init__(self, scenario: Scenario, seed: int, write: Write | None = None) -> None:
        self.scenario = scenario
        self.random = Random(f"lab/{seed}")
        self.config = EngineConfig(
            data_dir=Path(), max_workers=scenario.max_workers, max_concurrent_users=scenario.max_users, slot_max_s=scenario.slot_max_s
        )
        self.now = 0.0
        self.books, self.story = Books(), Story(write)
        self.machines = {
            queue: Machine(processes, scenario.spread, self.random) for queue, processes in (("cpu", scenario.processes), ("gpu", 0))
        }
        self.meter = Meter(scenario)
        self.unfinished: dict[int, int] = {}
        self._started: set[int] = set()
        self._failed: dict[int, bool] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._submissions = len(scenario.submissions)
        #: Processes as the leader knows them: it hears late of a death.
        self._known = {"cpu": scenario.processes}
        self._expected = ExpectedQueues((), 0.0, self.config.queue_patience_s)
        self.ledger: Ledger | None = None

    def run(self) -> Figures:
        """To the end of all work."""
        for number, submission in enumerate(self.scenario.submissions, start=1):
            self._later(submission.at_s, lambda n=number, s=submission: self._submit(n, s))  # type: ignore[misc]
        self._schedule_failures()
        self._lead()
        self._later(TICK_S, self._tick)
        while self._submissions or self.unfinished:
            self.now, _, act = heapq.heappop(self._heap)
            act()
        return self.meter.figures(self.books, self.now)

    def _later(self, when: float, act: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._heap, (when, self._order, act))

    # -- what users do

    def _submit(self, number: int, submission: Submission) -> None:
        user, first = submission.user, len(self.books.jobs) + 1
        actor = f"user-{user}"
        jobs = [self._job(first + n, number, submission, n) for n in range(len(submission.jobs))]
        self.unfinished[number] = len(jobs)
        self._submissions -= 1
        told: dict[str, Any] = {
            "jobs": len(jobs),
            "branches": len({job.lane for job in jobs}),
            "branch_scope": "workflow",
            "on_failure": "continue",
        }
        self.story.about_workflow(self.now, "workflow.submitted", user, number, actor=actor, **told)
        for job in jobs:
            self.books.submit(job)
            self.story.about_job(
                self.now, "job.submitted", job, actor=actor, order=job.key, tiles_total=job.plan.tiles, depends_on=[], queue=job.plan.queue
            )
        if user not in self.books.slots and user not in self.books.waiting:
            self.books.waiting[user] = self.now
            self.story.about_user(self.now, "user.waiting", user, "work without a slot", actor=actor, since=self.now)
        self._pass()

    def _job(self, key: int, workflow: int, submission: Submission, n: int) -> SimJob:
        plan = submission.jobs[n]
        lane = f"w{workflow}/{plan.branch}"
        done = bytearray(plan.tiles)
        return SimJob(key=key, user=submission.user, workflow=workflow, plan=plan, lane=lane, submitted_s=self.now, done=done)

    # -- what the leader does

    def _lead(self) -> None:
        """A leader begins, and carries on what ran."""
        shares = self.meter.shares
        self._expected = ExpectedQueues(self.books.expected, self.now, self.config.queue_patience_s)
        self.story.elect(self.now, self._limits())
        self.ledger = Ledger(self.config, self.story.term)
        taken = [self._take_over(job) for job in list(self.books.running.values())]
        self.ledger.begin(taken, shares, self.now)
        self._pass()

    def _take_over(self, job: SimJob) -> Claimed:
        claimed = self.books.claim(job.key, self.scenario.weight(job.user))
        self.story.about_job(self.now, "job.taken_over", job)
        return claimed

    def _tick(self) -> None:
        self._later(self.now + TICK_S, self._tick)
        self.meter.look(self.now, self.books, self.machines["cpu"], self.ledger)
        if self.ledger is not None:
            self._expected.look(self._known, self.now)
            held = (machine.held() for queue, machine in self.machines.items() if queue in self._known)
            self.ledger.lose_unnamed(frozenset().union(*held), self.now)
            self.ledger.look(self.now)
            self._pass()

    def _limits(self) -> Limits:
        return Limits(
            max_workers=self.scenario.max_workers,
            max_active_users=self.config.max_active_users,
            queues=frozenset(self._known),
            expected=self._expected.queues,
            slot_max_s=self.scenario.slot_max_s,
        )

    def _pass(self) -> None:
        """Ends, decisions, bundles: until nothing more is decided."""
        if self.ledger is None:
            return
        while self._reconcile(self.ledger):
            self.now += LOOK_S
        self._dispatch(self.ledger)

    def _dispatch(self, ledger: Ledger) -> None:
        for dispatch in ledger.dispatch(self.now, self._known):
            self.machines[dispatch.queue].put(dispatch)
        self._work()

    def _reconcile(self, ledger: Ledger) -> bool:
        limits = self._limits()
        if limits.expected != self.books.expected:
            self.books.expected = limits.expected
            self.story.expect(self.now, limits.expected)
        ends = ledger.ends()
        for end in ends:
            ledger.drop(end.job)
            self._end(end)
        snapshot = self.books.snapshot(limits, ledger.virtual_times(), ledger.yielding)
        decisions = decide(snapshot, limits, at(self.now))
        self._apply(decisions, ledger)
        return bool(ends or decisions.release or decisions.requeue or decisions.admit or decisions.claim or ledger.ends())

    def _apply(self, decisions: Decisions, ledger: Ledger) -> None:
        books = self.books
        for user in decisions.release:
            self._release(user)
        for user in decisions.requeue:
            del books.slots[user]
            books.waiting[user] = self.now
            self.story.about_user(self.now, "user.requeued", user, "time with a slot is over while others wait", since=self.now)
        for user in decisions.admit:
            since = books.waiting.pop(user)
            books.slots[user] = self.now
            self.story.about_user(self.now, "user.admitted", user, "longest waiting", since=self.now, waited_since=since)
        for claim in decisions.claim:
            self._claim(claim.job, claim.reason, ledger)
        for preemption in decisions.preempt:
            ledger.take_back(preemption.job, preemption.reason)

    def _release(self, user: int) -> None:
        del self.books.slots[user]
        if not self.books.has_work(user):
            self.story.about_user(self.now, "user.released", user, "no work that is not paused")
            return
        self.books.waiting[user] = self.now
        self.story.about_user(self.now, "user.released", user, "no work that can run")
        self.story.about_user(self.now, "user.waiting", user, "work without a slot", since=self.now)

    def _claim(self, key: int, reason: str, ledger: Ledger) -> None:
        job = self.books.jobs[key]
        ledger.add(self.books.claim(key, self.scenario.weight(job.user)), self.now)
        self.story.about_job(self.now, "job.started", job, reason=reason)
        if job.workflow not in self._started:
            self._started.add(job.workflow)
            self.story.about_workflow(self.now, "workflow.started", job.user, job.workflow, status="RUNNING")

    def _end(self, end: End) -> None:
        job = self.books.jobs[end.job]
        self.books.end(end, self.now)
        if end.state == JobState.PENDING:
            self.meter.taken_back += 1
            self.story.about_job(
                self.now, "job.taken_back", job, reason=end.reason, tiles=end.tiles_processed, retry_in_s=end.retry_in_s or None
            )
            return
        told: dict[str, Any] = {"state": end.state.value, "tiles": end.tiles_processed, "tiles_total": job.plan.tiles, "cached": False}
        self.story.about_job(self.now, "job.finished", job, reason=end.error, index_sha256=index_digest(job.ranges()), **told)
        self._failed[job.workflow] = self._failed.get(job.workflow, False) or end.state == JobState.FAILED
        self.unfinished[job.workflow] -= 1
        if not self.unfinished[job.workflow]:
            del self.unfinished[job.workflow]
            status = "FAILED" if self._failed.pop(job.workflow) else "SUCCEEDED"
            self.story.about_workflow(self.now, "workflow.finished", job.user, job.workflow, status=status)

    # -- what workers do

    def _work(self) -> None:
        for machine in self.machines.values():
            for work in machine.start(self.now, self.books.jobs.__getitem__):
                if work.job.begun_s is None:
                    work.job.begun_s = self.now
                self._later(work.done_s, partial(self._done, machine, work.dispatch.bundle.id))

    def _done(self, machine: Machine, bundle: str) -> None:
        work = machine.finish(bundle)
        if work is not None:
            self._work()
            outcome = work.outcome()
            self._later(self.now + WAY_S, lambda: self._settle(outcome))

    def _settle(self, outcome: Any) -> None:
        if self.ledger is None:
            return
        self.ledger.settle(outcome, self.now)
        if self.ledger.ends():
            self._pass()
        else:
            self._dispatch(self.ledger)

    # -- what breaks

    def _schedule_failures(self) -> None:
        failures = self.scenario.failures
        if failures.worker_every_s:
            self._later(self.random.expovariate(1 / failures.worker_every_s), self._worker_dies)
        if failures.leader_every_s:
            self._later(self.random.expovariate(1 / failures.leader_every_s), self._leader_dies)
        for comes_s, goes_s in self.scenario.gpu_s:
            self._later(comes_s, lambda: self._worker_returns("gpu", 1))
            if goes_s < inf:
                self._later(goes_s, self._gpu_goes)

    def _worker_dies(self) -> None:
        failures = self.scenario.failures
        gone = self.machines["cpu"].die(failures.processes, self.now)
        self._later(self.now + SILENT_S, self._hear)
        self._later(self.now + failures.worker_away_s, lambda: self._worker_returns("cpu", gone))
        self._later(self.now + failures.worker_away_s + self.random.expovariate(1 / failures.worker_every_s), self._worker_dies)

    def _gpu_goes(self) -> None:
        self.machines["gpu"].die(1, self.now)
        self.machines["gpu"].lose_queue()
        self._later(self.now + SILENT_S, self._hear)

    def _worker_returns(self, queue: str, processes: int) -> None:
        self.machines[queue].alive += processes
        self._hear()
        self._work()

    def _hear(self) -> None:
        self._known = {queue: machine.alive for queue, machine in self.machines.items() if machine.alive}
        # As in the product: whoever is seen is expected from that moment on.
        self._expected.look(self._known, self.now)

    def _leader_dies(self) -> None:
        failures = self.scenario.failures
        assert self.ledger is not None
        self.meter.shares = self.ledger.shares()
        self.ledger = None
        for machine in self.machines.values():
            machine.lose_queue()
        self._later(self.now + failures.leader_away_s, self._lead)
        self._later(self.now + failures.leader_away_s + self.random.expovariate(1 / failures.leader_every_s), self._leader_dies)


def simulate(scenario: Scenario, seed: int, write: Write | None = None) -> Figures:
    """Run a scenario; the same seed gives the same figures and the same log."""
    return replace(Lab(scenario, seed, write).run(), seed=seed)

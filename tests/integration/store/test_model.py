"""The store against a plain model of it, through whatever users, crashes and late messages do in whatever order."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from scheduling.engine.entry import End
from scheduling.engine.policy import Limits
from scheduling.errors import Conflict
from scheduling.models import Job, User, UserSlot, Workflow
from scheduling.services import workflows as services
from scheduling.services.workflows import JobRequest, WorkflowRequest
from scheduling.states import JobState
from scheduling.store.lease import Deposed
from scheduling.store.reconcile import Held, reconcile
from tests.integration.store.reference import C, F, FlowFact, JobFact, P, R, Reference, S
from tests.integration.working import lead

pytestmark = pytest.mark.django_db

USERS = ("alice", "bob", "carol")
CPU_JOB = JobRequest(job_id="", branch="", job_type="SEGMENT_CELLS")
GPU_JOB = JobRequest(job_id="", branch="", job_type="INSTANSEG_WSI", requires="gpu")
QUEUES = frozenset({"cpu", "gpu"})
#: Passes until nothing more is decided; with a tenure of no time at all, users may hand a slot to and fro.
MOST_PASSES = 15


@dataclass
class Memory:
    """What one scheduler process knows."""

    lease: Any
    #: job -> epoch of the claims it works on.
    held: dict[int, int] = field(default_factory=dict)
    yielding: frozenset[int] = frozenset()


@st.composite
def requests(draw: st.DrawFn) -> WorkflowRequest:
    """One to four jobs of up to three branches, some depending on earlier ones."""
    jobs: list[JobRequest] = []
    for n in range(draw(st.integers(1, 4))):
        needs = draw(st.lists(st.sampled_from([job.job_id for job in jobs]), unique=True, max_size=2)) if jobs else []
        branch = draw(st.sampled_from("abc"))
        kind = draw(st.sampled_from([CPU_JOB, CPU_JOB, GPU_JOB]))
        jobs.append(replace(kind, job_id=f"j{n}", branch=branch, depends_on=tuple(needs)))
    scope, rule_ = draw(st.sampled_from(["workflow", "user"])), draw(st.sampled_from(["continue", "stop"]))
    return WorkflowRequest(jobs=tuple(jobs), branch_scope=scope, on_failure=rule_)


class StoreMachine(RuleBasedStateMachine):
    """Every rule does the same to the store and to the model; whatever differs afterwards is an error."""

    def __init__(self) -> None:
        super().__init__()
        self._example = transaction.atomic()
        self._example.__enter__()
        self.users = {name: User.objects.create(username=name) for name in USERS}
        self.old_claims: list[tuple[int, int]] = []
        self.deposed: list[Memory] = []

    def teardown(self) -> None:
        try:
            self.everything_ends()
        finally:
            transaction.set_rollback(True)
            self._example.__exit__(None, None, None)

    @initialize(workers=st.integers(1, 4), users=st.integers(1, 3), has_tenure=st.booleans())
    def begin(self, workers: int, users: int, has_tenure: bool) -> None:
        self.model = Reference(max_workers=workers, max_users=users)
        self.has_tenure = has_tenure
        slot_max_s = 1e-6 if has_tenure else 0.0
        self.limits = Limits(max_workers=workers, max_active_users=min(users, workers), queues=frozenset({"cpu"}), slot_max_s=slot_max_s)
        self.me = Memory(lead("test/1/1.0").lease)

    # -- users

    @rule(name=st.sampled_from(USERS), request=requests())
    def submit(self, name: str, request: WorkflowRequest) -> None:
        user = self.users[name]
        flow = services.workflow_submit(user=user, request=request)
        self.model.flows[flow.pk] = FlowFact(key=flow.pk, user=user.pk, stops=request.on_failure == "stop")
        owner = f"u{user.pk}" if request.branch_scope == "user" else f"w{flow.pk}"
        keys = dict(Job.objects.filter(workflow=flow).values_list("job_id", "pk"))
        for job in request.jobs:
            needs = frozenset(keys[need] for need in job.depends_on)
            lane = f"{owner}/{job.branch}"
            key, queue = keys[job.job_id], job.requires
            fact = JobFact(key=key, user=user.pk, flow=flow.pk, branch=job.branch, lane=lane, needs=needs, queue=queue)
            self.model.jobs[fact.key] = fact
        self.model.queue_up(user.pk)

    def _flow(self, data: Any) -> tuple[Workflow, list[int]]:
        key = data.draw(st.sampled_from(sorted(self.model.flows)))
        return Workflow.objects.select_related("owner").get(pk=key), [job.key for job in self.model.jobs_of(key)]

    def _job(self, data: Any) -> Job:
        return Job.objects.select_related("workflow").get(pk=data.draw(st.sampled_from(sorted(self.model.jobs))))

    def _same(self, is_done: bool, act: Any, **target: Any) -> None:
        """The service does what the model did, or refuses where there was nothing to do."""
        try:
            act(**target, actor="somebody")
        except Conflict:
            assert not is_done
        else:
            assert is_done

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def cancel_workflow(self, data: Any) -> None:
        flow, keys = self._flow(data)
        self._same(self.model.cancel(keys), services.workflow_cancel, workflow=flow)

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def cancel_job(self, data: Any) -> None:
        job = self._job(data)
        self._same(self.model.cancel([job.pk]), services.job_cancel, job=job)

    @precondition(lambda self: self.model.in_state(F, C))
    @rule(data=st.data())
    def retry_workflow(self, data: Any) -> None:
        flow, keys = self._flow(data)
        self._same(self.model.retry(keys), services.workflow_retry, workflow=flow)

    @precondition(lambda self: self.model.in_state(F, C))
    @rule(data=st.data())
    def retry_job(self, data: Any) -> None:
        job = self._job(data)
        self._same(self.model.retry([job.pk]), services.job_retry, job=job)

    @precondition(lambda self: self.model.in_state(P, R))
    @rule(data=st.data(), paused=st.booleans())
    def pause_or_resume(self, data: Any, paused: bool) -> None:
        flow, _ = self._flow(data)
        act = services.workflow_pause if paused else services.workflow_resume
        self._same(self.model.pause(flow.pk, paused=paused), act, workflow=flow)

    # -- the leader

    def _pass(self, *ends: End, me: Memory | None = None) -> bool:
        """One pass with these ends; True when something was decided, so that another pass may find more."""
        me = me or self.me
        result = reconcile(me.lease, Held(ends=ends, running=frozenset(me.held), yielding=me.yielding), self.limits)
        expected = [end for end in ends if self.model.end(end.job, end.epoch, end.state)]
        assert [(end.job, end.epoch) for end in result.ended] == [(end.job, end.epoch) for end in expected]
        for end in expected:
            self.old_claims.append((end.job, end.epoch))
            me.held.pop(end.job, None)
        self._follow({claimed.job: claimed.epoch for claimed in result.claimed})
        me.held |= {claimed.job: claimed.epoch for claimed in result.claimed}
        me.yielding = frozenset((me.yielding | {preemption.job for preemption in result.preempt}) & set(me.held))
        return result.has_decided

    def _follow(self, claimed: dict[int, int]) -> None:
        """Let the model do what the leader did, if it was allowed to."""
        strays = {job.key for job in self.model.in_state(R) if job.key in claimed}
        self.old_claims += [(key, self.model.jobs[key].epoch) for key in strays]
        self.model.take_over(strays, claimed)
        slots, queue = self._seats()
        self.model.move_slots(slots, queue, has_tenure=self.has_tenure)
        waiting = [job.key for job in self.model.in_state(P)]
        gone = set(Job.objects.filter(pk__in=waiting, state=C).values_list("pk", flat=True))
        self.model.start({key: epoch for key, epoch in claimed.items() if key not in strays}, gone)
        self.model.last_epoch = max([self.model.last_epoch, *claimed.values()])

    @rule(served=st.sets(st.sampled_from(sorted(QUEUES))), patient=st.booleans())
    def workers_come_and_go(self, served: set[str], patient: bool) -> None:
        """Slots are given for the work of those that are there, and of those that went a short while ago."""
        expected = served | self.model.expected if patient or not served else served
        self._have_workers(frozenset(served), frozenset(expected))

    def _have_workers(self, served: frozenset[str], expected: frozenset[str]) -> None:
        self.model.served, self.model.expected = served, expected
        self.limits = replace(self.limits, queues=served, expected=expected)

    @rule()
    def look(self) -> None:
        self._pass()

    @rule()
    def settle(self) -> None:
        if any(not self._pass() for _ in range(MOST_PASSES)):
            self.model.check_settled(has_tenure=self.has_tenure)

    def _ends(self, data: Any) -> list[End]:
        """Some claims end, as they may."""
        keys = data.draw(st.lists(st.sampled_from(sorted(self.me.held)), unique=True, min_size=1, max_size=3))
        return [end_of(key, self.me.held[key], data.draw(st.sampled_from(self._outcomes(key)))) for key in keys]

    def _outcomes(self, key: int) -> list[str]:
        job = self.model.jobs[key]
        return [C, S, P] if job.asked else [P, S] if key in self.me.yielding else [S, S, F, P]

    @precondition(lambda self: self.me.held)
    @rule(data=st.data())
    def end(self, data: Any) -> None:
        self._pass(*self._ends(data))

    @precondition(lambda self: self.old_claims)
    @rule(data=st.data(), state=st.sampled_from([S, F, C, P]))
    def a_late_outcome_changes_nothing(self, data: Any, state: str) -> None:
        key, epoch = data.draw(st.sampled_from(self.old_claims))
        self._pass(end_of(key, epoch, state))

    @precondition(lambda self: self.me.held)
    @rule(data=st.data())
    def forget_a_claim_whose_commit_was_not_answered(self, data: Any) -> None:
        key = data.draw(st.sampled_from(sorted(self.me.held)))
        self.old_claims.append((key, self.me.held.pop(key)))
        self._pass()

    @rule()
    def crash(self) -> None:
        """Another scheduler leads, and takes over what runs."""
        self.deposed.append(self.me)
        self.me = Memory(lead(f"test/{len(self.deposed) + 1}/1.0").lease)
        assert self.me.lease.term == self.deposed[-1].lease.term + 1
        self._pass()
        assert set(self.me.held) >= {job.key for job in self.model.in_state(R)}

    @precondition(lambda self: self.deposed)
    @rule(data=st.data(), state=st.sampled_from([S, F, C, P]))
    def a_deposed_leader_changes_nothing(self, data: Any, state: str) -> None:
        old = data.draw(st.sampled_from(self.deposed))
        ends = tuple(end_of(key, epoch, state) for key, epoch in old.held.items())
        with pytest.raises(Deposed):
            reconcile(old.lease, Held(ends=ends, running=frozenset(old.held)), self.limits)

    # -- what holds after every step

    def _seats(self) -> tuple[set[int], list[int]]:
        queue = User.objects.filter(waiting_since__isnull=False).order_by("waiting_since", "pk").values_list("pk", flat=True)
        return set(UserSlot.objects.values_list("user_id", flat=True)), list(queue)

    @invariant()
    def the_store_is_as_the_model(self) -> None:
        if not hasattr(self, "model"):
            return
        rows = Job.objects.order_by("pk").values_list("pk", "state", "attempt", "epoch", "cancel_requested")
        assert [(*row[:4], row[4] and row[1] == R) for row in rows] == [
            (job.key, job.state, job.attempt, job.epoch, job.asked and job.state == R) for job in self.model.jobs.values()
        ]
        assert dict(Workflow.objects.values_list("pk", "status")) == {key: self.model.status(key) for key in self.model.flows}
        assert self._seats() == (self.model.slots, self.model.queue)
        self.model.check()

    # -- and in the end

    def everything_ends(self) -> None:
        """Nothing waits for ever: with every workflow resumed, workers for all queues and every claim ended, all jobs end."""
        if not hasattr(self, "model"):
            return
        for key, flow in self.model.flows.items():
            if flow.paused:
                self._same(self.model.pause(key, paused=False), services.workflow_resume, workflow=Workflow.objects.get(pk=key))
        self._have_workers(QUEUES, QUEUES)
        for _ in range(3 * len(self.model.jobs) + MOST_PASSES):
            self._pass(*[end_of(key, epoch, S) for key, epoch in self.me.held.items()])
        assert not self.model.in_state(P, R), "some jobs wait for ever"
        self._pass()
        self.the_store_is_as_the_model()
        assert (self.model.slots, self.model.queue) == (set(), [])


def end_of(key: int, epoch: int, state: str) -> End:
    """How a claim ends; simulated segmentations have 20 tiles."""
    tiles = 20 if state == S else 7
    return End(job=key, epoch=epoch, state=JobState(state), tiles_processed=tiles, tiles_total=20, error="boom" if state == F else "")


def test_the_store_does_what_a_plain_model_of_it_does() -> None:
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large]
    bounded = settings(max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=quiet, print_blob=True)
    run_state_machine_as_test(StoreMachine, settings=bounded)  # type: ignore[no-untyped-call]

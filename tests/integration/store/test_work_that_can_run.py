"""A slot is for work that can run: who has none gives it up, keeps a place in the queue, is passed over, and goes on in order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scheduling.audit.checker import Checker
from scheduling.audit.judging import user_rules
from scheduling.models import Event, Job, SchedulerLease, User, Workflow
from scheduling.selectors.log import log_events
from scheduling.selectors.queue import positions_in_queue, queue_body
from scheduling.selectors.workflows import workflow_body
from scheduling.services.workflows import JobRequest, workflow_cancel, workflow_pause, workflow_resume
from scheduling.states import JobState
from scheduling.store.events import leader_event, record
from scheduling.store.users import in_line, runnable_of
from tests.integration.working import F, Leader, is_active, job_of, lead, new_user, states, submit, waits

pytestmark = pytest.mark.django_db

P = JobState.PENDING
CPU, GPU, BOTH = frozenset({"cpu"}), frozenset({"gpu"}), frozenset({"cpu", "gpu"})


#: Of the checker, about slots and queues; the log lacks the digests of tiles, since no worker makes any.
RULES = user_rules.names | {"slot-given-up", "nobody-forgotten", "queue-is-served", "queues-as-told"}


@pytest.fixture
def leader() -> Iterator[Leader]:
    """A scheduler with one slot, and workers of the cpu alone; by its own log it was right in the end."""
    leader = lead(max_active_users=1)
    record([leader_event("leader.elected", leader.lease.term, max_active_users=1, queues=["cpu"])])
    yield leader
    leader.settle()
    checker = Checker()
    found = [*checker.read(log_events()), *checker.finish()]
    assert [str(violation) for violation in found if violation.rule in RULES] == []


def gpu(job_id: str = "g", branch: str = "b1", *needs: str) -> JobRequest:
    """A job that requires a gpu."""
    return JobRequest(job_id=job_id, branch=branch, job_type="INSTANSEG_WSI", requires="gpu", depends_on=needs)


def have(leader: Leader, served: frozenset[str], expected: frozenset[str] | None = None) -> None:
    """Workers come or go, and the leader looks."""
    leader.queues, leader.expected = served, served if expected is None else expected
    leader.settle()


def moves() -> list[tuple[str, str]]:
    """Moves of slots as (type, user)."""
    names = dict(User.objects.values_list("pk", "username"))
    kinds = ("user.admitted", "user.released", "user.requeued", "user.left_queue")
    return [(kind, names[key]) for kind, key in Event.objects.filter(type__in=kinds).order_by("id").values_list("type", "user_id") if key]


def reasons(workflow: Workflow) -> dict[str, str | None]:
    """Why each job waits."""
    return {job["job_id"]: job["waiting_reason"] for job in workflow_body(workflow)["jobs"]}


def test_a_user_who_needs_workers_that_are_not_there_is_passed_over(leader: Leader) -> None:
    alice, bob = new_user("alice"), new_user("bob")
    hers, his = submit(alice, gpu()), submit(bob, "j1")
    leader.settle()
    assert (is_active(alice), waits(alice), is_active(bob), states(his)) == (False, True, True, {"j1": "RUNNING"})
    assert reasons(hers) == {"g": "waiting for a gpu worker"}
    assert workflow_body(hers)["queue_position"] is None


def test_a_slot_is_given_up_when_what_is_left_needs_workers_that_are_gone(leader: Leader) -> None:
    alice, bob = new_user("alice"), new_user("bob")
    hers, his = submit(alice, "mask", gpu(), "after"), submit(bob, "j1")
    have(leader, BOTH)
    leader.end(hers, "mask")
    assert states(hers) == {"mask": "SUCCEEDED", "g": "RUNNING", "after": "PENDING"}
    have(leader, CPU, BOTH)
    assert leader.yielding == {job_of(hers, "g").pk}, "its tiles wait for the worker"
    leader.end(hers, "g", P, reason="no gpu worker is left")
    leader.settle()
    assert is_active(alice), "a worker that is started again costs no slot"
    have(leader, CPU)
    assert (waits(alice), is_active(bob), states(his)) == (True, True, {"j1": "RUNNING"})
    assert reasons(hers) == {"mask": None, "g": "waiting for a gpu worker", "after": "behind job g in branch b1"}
    told = Event.objects.get(type="user.released")
    assert (told.user_id, told.reason, told.data) == (alice.pk, "no work that can run", {"unserved": ["gpu"]})


def test_when_the_workers_are_back_the_user_who_has_waited_longest_comes_first(leader: Leader) -> None:
    users = [new_user(name) for name in ("alice", "bob", "carol", "dave")]
    flows = [submit(users[0], "j1"), submit(users[1], gpu()), submit(users[2], gpu()), submit(users[3], "j1")]
    leader.settle()
    assert positions_in_queue() == {users[3].pk: (1, 1)}
    have(leader, BOTH)
    assert positions_in_queue() == {users[1].pk: (1, 3), users[2].pk: (2, 3), users[3].pk: (3, 3)}
    for flow in flows:
        leader.end(flow, flow.jobs.get().job_id)
    leader.settle()
    assert [name for kind, name in moves() if kind == "user.admitted"] == ["alice", "bob", "carol", "dave"]


def test_more_work_of_another_kind_makes_the_user_eligible_in_the_old_place(leader: Leader) -> None:
    alice, bob, carol = new_user("alice"), new_user("bob"), new_user("carol")
    submit(alice, gpu())
    first = submit(bob, "j1")
    leader.settle()
    submit(carol, "j1")
    submit(alice, "j2")
    assert positions_in_queue() == {alice.pk: (1, 2), carol.pk: (2, 2)}
    leader.end(first)
    assert is_active(alice)


def test_the_queue_shows_who_is_in_line(leader: Leader) -> None:
    alice, bob, carol = new_user("alice"), new_user("bob"), new_user("carol")
    submit(alice, gpu()), submit(bob, "j1"), submit(carol, "j1")
    leader.settle()
    shown = queue_body(new_user("stefanie", is_staff=True))
    assert [row["user_id"] for row in shown["active"]] == ["bob"]
    assert [(row["user_id"], row["position"]) for row in shown["waiting"]] == [("carol", 1)]


@pytest.mark.parametrize("ending", ["cancel", "pause"])
def test_who_waits_for_workers_and_wants_nothing_any_more_leaves_the_queue(leader: Leader, ending: str) -> None:
    alice = new_user()
    workflow = submit(alice, gpu())
    leader.settle()
    (workflow_cancel if ending == "cancel" else workflow_pause)(workflow=workflow, actor="alice")
    assert not waits(alice)


def test_work_behind_a_paused_job_of_another_workflow_keeps_no_slot(leader: Leader) -> None:
    alice, bob = new_user("alice"), new_user("bob")
    first, second = submit(alice, "j1", branch_scope="user"), submit(alice, "j2", branch_scope="user")
    his = submit(bob, "j1")
    workflow_pause(workflow=first, actor="alice")
    leader.settle()
    assert (is_active(alice), waits(alice), is_active(bob)) == (False, True, True)
    workflow_resume(workflow=first, actor="alice")
    leader.end(his)
    leader.settle()
    assert (is_active(alice), states(first), states(second)) == (True, {"j1": "RUNNING"}, {"j2": "PENDING"})


def test_what_waits_for_a_retry_keeps_the_slot(leader: Leader) -> None:
    alice, bob = new_user("alice"), new_user("bob")
    hers = submit(alice, "j1")
    leader.settle()
    submit(bob, "j1")
    leader.end(hers, state=P, reason="tile 3 is tried again later", retry_in_s=60.0)
    leader.settle()
    assert (is_active(alice), waits(bob)) == (True, True)


def test_what_depends_on_a_failed_job_can_run_and_is_cancelled_when_its_turn_comes(leader: Leader) -> None:
    alice = new_user()
    workflow = submit(alice, "a x", gpu("g", "y", "a"))
    have(leader, BOTH)
    leader.end(workflow, "a", F)
    leader.settle()
    assert states(workflow) == {"a": "FAILED", "g": "CANCELLED"}


@pytest.mark.parametrize(
    ("jobs", "expected", "can"),
    [
        (("a x",), CPU, True),
        (("a x",), GPU, False),
        ((gpu(),), CPU, False),
        ((gpu(),), BOTH, True),
        ((gpu(), "a b1"), CPU, False),
        ((gpu(), "a b2"), CPU, True),
        (("a b1", gpu()), CPU, True),
        ((gpu(), JobRequest(job_id="a", branch="b2", job_type="SEGMENT_CELLS", depends_on=("g",))), CPU, False),
        ((), CPU, False),
    ],
)
def test_work_can_run_that_waits_for_no_other_job_and_whose_queue_is_expected(jobs: tuple, expected: frozenset[str], can: bool) -> None:
    user = new_user()
    if jobs:
        submit(user, *jobs)
    assert runnable_of(user.pk, expected).exists() is can
    assert list(in_line(expected)) == [user] * can


def test_a_running_job_lets_what_waits_behind_it_count_for_nothing() -> None:
    user = new_user()
    workflow = submit(user, gpu(), "a b1")
    Job.objects.filter(workflow=workflow, job_id="g").update(state="RUNNING")
    assert (runnable_of(user.pk, CPU).exists(), runnable_of(user.pk, BOTH).exists()) == (False, True)


def test_the_queues_that_slots_are_given_for_are_told_when_they_change_and_outlive_the_leader(leader: Leader) -> None:
    have(leader, BOTH)
    have(leader, CPU, BOTH)
    have(leader, CPU)
    assert list(Event.objects.filter(type="leader.queues").values_list("data", flat=True)) == [
        {"queues": ["cpu", "gpu"]},
        {"queues": ["cpu"]},
    ]
    have(leader, BOTH)
    assert SchedulerLease.objects.get().expected_queues == ["cpu", "gpu"]
    assert leader.lease.standing() == (False, BOTH)

"""`manage.py drain`: what runs comes back at its bundle's end, nothing is started, and everything goes on where it was."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from scheduling.models import Event, SchedulerLease, User
from scheduling.selectors.workflows import workflow_body
from scheduling.states import JobState
from tests.integration.working import Leader, is_active, job_of, lead, new_user, states, submit, waits

pytestmark = pytest.mark.django_db
P, R = JobState.PENDING, JobState.RUNNING


@pytest.fixture
def alice() -> User:
    return new_user()


def drain(**options: Any) -> str:
    """What the command says."""
    out = StringIO()
    call_command("drain", stdout=out, **options)
    return out.getvalue()


def take_back(leader: Leader) -> None:
    """One pass asks for the jobs, the next has them."""
    asked = leader.look().preempt
    leader.look(*[leader.ending(job.workflow, job.job_id, P, reason=a.reason) for a in asked for job in [_job(a.job)]])


def _job(key: int) -> Any:
    from scheduling.models import Job

    return Job.objects.select_related("workflow").get(pk=key)


def test_a_drained_scheduler_takes_everything_back_starts_nothing_and_says_when_it_is_empty(alice: User) -> None:
    leader = lead(max_active_users=1)
    workflow, later = submit(alice, "j1", "j2 b2"), submit(new_user("bob"))
    leader.settle()
    with pytest.raises(CommandError, match="2 jobs still run"):
        drain(timeout=0)
    take_back(leader)
    assert states(workflow) == {"j1": P, "j2": P}
    assert drain().startswith("empty")
    leader.settle()
    assert states(workflow) == {"j1": P, "j2": P}
    assert is_active(alice) and waits(later.owner), "slots and places in the queue are kept"
    reasons = Event.objects.filter(type="job.taken_back").values_list("reason", flat=True)
    assert set(reasons) == {"the scheduler is draining"}


def test_a_drain_outlives_the_leader_and_ends_when_it_is_told_to(alice: User) -> None:
    workflow = submit(alice)
    drain()
    leader = lead()
    leader.settle()
    assert states(workflow) == {"j1": P}
    assert workflow_body(workflow)["jobs"][0]["waiting_reason"] == "the scheduler is draining"
    assert drain(resume=True).startswith("resumed")
    leader.settle()
    assert states(workflow) == {"j1": R}
    assert drain(resume=True).startswith("nothing to resume")
    assert list(Event.objects.filter(actor="operator").values_list("type", flat=True)) == ["scheduler.draining", "scheduler.resumed"]


def test_a_job_whose_end_is_asked_for_ends_while_the_work_runs_out(alice: User) -> None:
    leader = lead()
    workflow = submit(alice)
    leader.settle()
    with pytest.raises(CommandError):
        drain(timeout=0)
    leader.end(workflow)
    assert states(workflow) == {"j1": JobState.SUCCEEDED}
    assert job_of(workflow).finished_at is not None


def test_without_any_scheduler_ever_a_drain_is_empty_at_once() -> None:
    assert not SchedulerLease.objects.exists()
    assert drain().startswith("empty")

"""Who leads: terms only rise, trust ends by the database's clock, a deposed leader changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta

import psutil
import pytest
from django.db import DatabaseError, transaction
from django.db.models.functions import Now

from scheduling.models import Event, SchedulerLease, UserSlot
from scheduling.store import lease as leasing
from scheduling.store.lease import Deposed, acquire, holder_name
from tests.integration.working import at_once, lead, new_user, refuse_exceptions, states, submit, waits

pytestmark = pytest.mark.django_db


def expire() -> None:
    """Let the database's clock pass the trust."""
    SchedulerLease.objects.update(trusted_until=Now() - timedelta(milliseconds=5))


def test_the_first_to_come_leads_and_the_next_stands_by() -> None:
    first = acquire("elsewhere/1/1.0", 6)
    assert first is not None
    assert first.term == 1
    assert acquire("other/2/2.0", 6) is None
    assert SchedulerLease.objects.get().holder == "elsewhere/1/1.0"


def test_trust_that_has_ended_by_the_databases_clock_lets_another_lead_in_a_new_term() -> None:
    first = acquire("elsewhere/1/1.0", 6)
    expire()
    second = acquire("other/2/2.0", 6)
    assert first is not None
    assert second is not None
    assert (first.term, second.term) == (1, 2)


def test_every_transaction_of_the_leader_renews_the_trust() -> None:
    lease = acquire("elsewhere/1/1.0", 6)
    assert lease is not None
    expire()
    with lease.transaction():
        pass
    assert acquire("other/2/2.0", 6) is None


def test_a_leader_that_resigns_is_followed_at_once() -> None:
    lease = acquire("elsewhere/1/1.0", 6)
    assert lease is not None
    lease.resign()
    assert acquire("other/2/2.0", 6) is not None


def test_a_deposed_leader_changes_nothing() -> None:
    user = new_user()
    workflow = submit(user)
    old = lead("old/1/1.0")
    new = lead("new/1/1.0")
    with pytest.raises(Deposed):
        old.look()
    assert (states(workflow), waits(user), UserSlot.objects.count()) == ({"j1": "PENDING"}, True, 0)
    old.lease.resign()
    assert SchedulerLease.objects.get().holder == "new/1/1.0"
    assert [claimed.spec.owner for claimed in new.look().claimed] == ["alice"]


def test_a_leader_deposed_between_two_passes_cannot_end_its_job() -> None:
    old = lead("old/1/1.0")
    workflow = submit(new_user())
    old.look()
    end = old.ending(workflow)
    lead("new/1/1.0")
    with pytest.raises(Deposed):
        old.look(end)
    assert states(workflow) == {"j1": "RUNNING"}
    assert not Event.objects.filter(type="job.finished").exists()


def test_epochs_never_repeat_over_terms_and_failed_transactions() -> None:
    first = lead("a/1/1.0").lease
    with first.transaction():
        given = [*first.new_epochs(3), *first.new_epochs(0), *first.new_epochs(2)]
    with pytest.raises(ZeroDivisionError), first.transaction():
        first.new_epochs(4)
        raise ZeroDivisionError
    second = lead("b/1/1.0").lease
    with second.transaction():
        given += second.new_epochs(2)
    assert given == [1, 2, 3, 4, 5, 6, 7]


def test_the_same_process_leads_again_in_a_new_term() -> None:
    first, again = acquire("a/1/1.0", 6), acquire("a/1/1.0", 6)
    assert first is not None
    assert again is not None
    assert again.term == first.term + 1
    with pytest.raises(Deposed), first.transaction():
        pass


def test_a_holder_of_this_host_whose_process_is_gone_is_followed_at_once() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    name = f"{leasing._host()}/{ended.pid}/{psutil.Process(ended.pid).create_time():.2f}"
    ended.wait()
    assert acquire(name, 60) is not None
    assert acquire("other/2/2.0", 6) is not None


def test_a_holder_whose_process_id_was_given_to_another_process_is_gone() -> None:
    assert acquire(f"{leasing._host()}/{os.getpid()}/1.00", 60) is not None
    assert acquire("other/2/2.0", 6) is not None


def test_a_holder_of_this_host_that_lives_is_trusted() -> None:
    assert acquire(holder_name(), 60) is not None
    assert acquire("other/2/2.0", 6) is None


@pytest.mark.django_db(transaction=True)
def test_of_many_who_want_to_lead_at_once_one_does() -> None:
    results = at_once(*[lambda n=n: acquire(f"host-{n}/1/1.0", 60) for n in range(6)])
    refuse_exceptions(results)
    (leader,) = [result for result in results if result is not None]
    assert (leader.term, SchedulerLease.objects.get().holder) == (1, leader.holder)


@pytest.mark.django_db(transaction=True)
def test_a_leader_and_its_deposer_at_once_start_a_job_once() -> None:
    workflow = submit(new_user())
    old = lead("old/1/1.0")
    expire()

    def take_over() -> object:
        lease = acquire("new/1/1.0", 60)
        return lease and lead("new/1/1.0").look()

    results = at_once(old.look, take_over)
    refuse_exceptions(results, Deposed)
    assert states(workflow) == {"j1": "RUNNING"}
    assert Event.objects.filter(type="job.started").count() == 1


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_leader_that_hangs_inside_its_transaction_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr(leasing, "IDLE_IN_TRANSACTION_S", 1)
    lease = lead("hanging/1/1.0").lease
    workflow = submit(new_user())

    def hang() -> None:
        with lease.transaction():
            time.sleep(1.5)  # what is tested: idle for longer than the database allows

    (error,) = at_once(hang)
    assert isinstance(error, DatabaseError)
    with transaction.atomic():
        assert [claimed.spec.id for claimed in lead("next/1/1.0").look().claimed] == [str(workflow.jobs.get().uuid)]

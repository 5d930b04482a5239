"""What must end one job alone, never the scheduler: types that are gone, rows that are gone, texts no database takes, garbage."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from scheduling.jobtypes import registry
from scheduling.jobtypes.base import WorkerSettings
from scheduling.leader.loop import SchedulerLoop
from scheduling.models import Event, Job, SchedulerLease
from scheduling.protocol.messages import Bundle, Failure, Outcome
from scheduling.store import trash
from scheduling.store.claims import take_over_jobs
from tests.integration.store.house import House
from tests.integration.working import S, job_of, lead, new_slide, new_user, states, status, submit

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def broken_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The name of a job type whose package raises while it loads."""
    (tmp_path / "package_that_breaks.py").write_text("raise OSError('libfoo.so is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry.BUILT_IN, "BROKEN", "package_that_breaks:Broken")
    registry._locations.cache_clear()
    yield "BROKEN"
    registry._locations.cache_clear()


def test_a_job_whose_type_is_not_installed_any_more_fails_and_its_branch_goes_on() -> None:
    leader, workflow = lead(), submit(new_user(), "j1", "j2")
    Job.objects.filter(job_id="j1").update(job_type="GONE")
    leader.look()
    leader.look()
    assert states(workflow) == {"j1": "FAILED", "j2": "RUNNING"}
    assert job_of(workflow).error == "The job type GONE is not installed."
    assert job_of(workflow).finished_at is not None
    leader.end(workflow, "j2")
    assert status(workflow) == "FAILED"


def test_a_job_whose_package_does_not_load_fails_with_what_it_raised(broken_package: str) -> None:
    user = new_user()
    workflow = submit(user, "j1")
    Job.objects.update(job_type=broken_package, slide=new_slide(user))
    lead().look()
    assert states(workflow) == {"j1": "FAILED"}
    assert job_of(workflow).error == "The job type BROKEN does not load: libfoo.so is missing"


def test_a_new_leader_fails_a_running_job_whose_type_is_gone_and_carries_on_the_others() -> None:
    workflow = submit(new_user(), "j1", "k1 b2")
    lead().look()
    Job.objects.filter(job_id="j1").update(job_type="GONE")
    new = lead("new/1/1.0")
    with new.lease.transaction():
        taken = take_over_jobs(new.lease, timezone.now())
    assert [claimed.job for claimed in taken] == [job_of(workflow, "k1").pk]
    assert states(workflow) == {"j1": "FAILED", "k1": "RUNNING"}


def test_a_job_that_runs_unknown_to_the_ledger_is_taken_on_again() -> None:
    """As after a commit whose answer was lost: the claim stands in the database, and the loop has never heard of it."""
    leader, workflow = lead(), submit(new_user(), "j1")
    leader.look()
    before = job_of(workflow).epoch
    leader.held.clear()
    found = leader.look()
    assert [claimed.job for claimed in found.claimed] == [job_of(workflow).pk]
    assert job_of(workflow).epoch == found.claimed[0].epoch > before
    leader.end(workflow)
    assert states(workflow) == {"j1": "SUCCEEDED"}


def test_a_running_job_whose_row_is_gone_is_sent_no_more() -> None:
    leader, workflow = lead(), submit(new_user(), "j1")
    leader.look()
    key = job_of(workflow).pk
    assert key not in leader.look().cancel
    workflow.delete()
    assert key in leader.look().cancel


def test_a_job_does_not_finish_before_it_started_when_the_clock_goes_back() -> None:
    leader, workflow = lead(), submit(new_user(), "j1")
    leader.look()
    later = timezone.now() + timedelta(hours=1)
    Job.objects.update(started_at=later)
    leader.end(workflow)
    assert job_of(workflow).finished_at == later


def test_an_error_text_that_no_database_takes_fails_its_job_and_not_the_scheduler(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def carry_out(order: Bundle, settings: WorkerSettings, **_: object) -> Outcome:
        failure = Failure(message="bad \0 and \udcff", traceback="\0\udcff", tile=0, is_final=True)
        return Outcome(bundle=order.id, job=order.spec.id, epoch=order.epoch, failure=failure)

    monkeypatch.setattr("tests.support.inline_pool.run", carry_out)
    workflow = submit(new_user())
    house.finish()
    assert states(workflow) == {"j1": "FAILED"}
    assert job_of(workflow).error == "Tile 0: bad � and \\udcff"


def test_garbage_in_the_inbox_is_counted_and_the_work_goes_on(house: House) -> None:
    workflow = submit(new_user())
    house.step()
    name = f"inbox:{house.lease.term}"
    garbage = ("no json", "[]", "null", '{"bundle": "b"}', b"\xff\xfe")
    house.inbox._redis.rpush(name, *garbage)
    house.finish()
    house.step()
    assert status(workflow) == "SUCCEEDED"
    assert house.inbox.counters()["unreadable_outcomes"] >= 2


def test_tiles_that_cannot_be_removed_do_not_end_the_scheduler(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(data_dir: Path, digest: str) -> None:
        raise PermissionError("read-only file system")

    monkeypatch.setattr(trash, "discard_tiles", refuse)
    workflow = submit(new_user(), "j1", "j2")
    house.finish()
    assert states(workflow) == {"j1": S, "j2": S}


def test_a_leader_whose_commit_seemed_to_fail_carries_the_job_to_its_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = submit(new_user())
    take_on, asked = SchedulerLoop._take_on, []

    def once_not(self: SchedulerLoop, claimed: object) -> None:
        asked.append(claimed)
        if len(asked) > 1:
            take_on(self, claimed)  # type: ignore[arg-type]

    monkeypatch.setattr(SchedulerLoop, "_take_on", once_not)
    house.finish()
    assert status(workflow) == "SUCCEEDED"
    assert Event.objects.filter(type="job.taken_over").count() == 1
    assert SchedulerLease.objects.get().epoch == 2

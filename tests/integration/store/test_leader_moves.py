"""What the leader writes: claims, ends and what follows from them, the take-over, progress."""

from __future__ import annotations

import pytest
from django.utils import timezone

from scheduling.engine.entry import Entry
from scheduling.models import Event, Job, User, UserSlot
from scheduling.services.workflows import JobRequest, workflow_cancel
from scheduling.store import claims
from scheduling.store.claims import take_over_jobs
from scheduling.store.ends import save_progress
from scheduling.store.slots import admit_users, release_slots
from scheduling.store.specs import spec_of
from tests.integration.working import (
    C,
    F,
    Leader,
    assert_nobody_is_forgotten,
    is_active,
    job_of,
    lead,
    new_slide,
    new_user,
    states,
    status,
    submit,
    waits,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def leader() -> Leader:
    """A scheduler of four workers and three users."""
    return lead()


def test_a_claim_starts_the_job_with_an_epoch_of_its_own(leader: Leader) -> None:
    workflow = submit(new_user(), "j1", "j2 b2")
    claimed = leader.look().claimed
    jobs = list(Job.objects.order_by("id"))
    assert [(job.state, job.epoch, job.term) for job in jobs] == [("RUNNING", 1, 1), ("RUNNING", 2, 1)]
    assert [(found.job, found.epoch, found.spec.id, found.spec.digest) for found in claimed] == [
        (job.pk, job.epoch, str(job.uuid), job.digest) for job in jobs
    ]
    workflow.refresh_from_db()
    assert (workflow.status, workflow.started_at) == ("RUNNING", jobs[0].started_at)
    told = {"workflow.submitted", "job.submitted", "user.waiting", "user.admitted", "job.started", "workflow.started"}
    assert set(Event.objects.values_list("type", flat=True)) == told


@pytest.mark.parametrize("change", [{"state": "CANCELLED"}, {"attempt": 2}])
def test_a_job_that_has_changed_since_it_was_read_is_not_claimed(leader: Leader, change: dict[str, object]) -> None:
    workflow = submit(new_user())
    read = job_of(workflow)
    Job.objects.filter(pk=read.pk).update(**change)
    with leader.lease.transaction():
        start = claims.Start(job=read, epoch=1, spec=spec_of(read, []), reason="its turn")
        assert claims._start(leader.lease, [start], read.created_at) == []
    assert job_of(workflow).epoch == 0
    assert not Event.objects.filter(type="job.started").exists()


def test_no_more_jobs_run_than_workers_and_no_more_users_are_active_than_allowed() -> None:
    leader = lead(max_workers=3, max_active_users=2)
    flows = [submit(new_user(f"user{n}"), "j1 a", "j2 b", "j3 c") for n in range(3)]
    leader.settle()
    assert [list(states(flow).values()).count("RUNNING") for flow in flows] == [2, 1, 0]
    assert UserSlot.objects.count() == 2


def test_two_jobs_with_equal_parameters_have_tile_folders_of_their_own(leader: Leader) -> None:
    alice, bob = new_user("alice"), new_user("bob")
    submit(alice), submit(alice), submit(bob)
    assert len({claimed.spec.digest for claimed in leader.look().claimed}) == 3


def test_an_end_is_written_once_and_starts_the_next_in_the_lane(leader: Leader) -> None:
    workflow = submit(new_user(), "j1", "j2")
    leader.look()
    end = leader.ending(workflow, artifacts=({"name": "results.json"},), warnings=("w",))
    first = leader.look(end)
    assert [found.spec.id for found in first.claimed] == [str(job_of(workflow, "j2").uuid)]
    assert (first.ended, first.digests) == ((end,), (job_of(workflow, "j1").digest,))
    job = job_of(workflow, "j1")
    assert (job.state, job.artifacts, job.warnings, job.tiles_processed) == ("SUCCEEDED", [{"name": "results.json"}], ["w"], 20)
    assert leader.look(end).ended == ()
    assert Event.objects.filter(type="job.finished").count() == 1


def test_an_end_of_an_earlier_claim_changes_nothing(leader: Leader) -> None:
    workflow = submit(new_user())
    leader.look()
    end = leader.ending(workflow, state=F)
    with leader.lease.transaction():
        take_over_jobs(leader.lease, timezone.now())
    assert leader.look(end).ended == ()
    assert states(workflow) == {"j1": "RUNNING"}


def test_an_end_of_a_job_that_is_no_more_changes_nothing(leader: Leader) -> None:
    workflow = submit(new_user())
    leader.look()
    end = leader.ending(workflow)
    workflow.delete()
    assert leader.look(end).ended == ()


def test_a_user_keeps_the_slot_until_all_jobs_of_all_workflows_have_ended() -> None:
    leader = lead(max_active_users=1)
    alice, bob = new_user("alice"), new_user("bob")
    first = submit(alice, "j1", "j2")
    submit(bob)
    leader.settle()
    second = submit(alice)
    for flow, job_id in ((first, "j1"), (first, "j2")):
        leader.end(flow, job_id)
        leader.settle()
        assert (is_active(alice), waits(bob)) == (True, True)
    leader.end(second)
    assert (is_active(alice), is_active(bob)) == (False, True)
    assert_nobody_is_forgotten()


def test_a_slot_is_not_taken_from_a_user_who_has_submitted_meanwhile(leader: Leader) -> None:
    alice = new_user()
    workflow = submit(alice)
    leader.look()
    with leader.lease.transaction():
        assert release_slots(leader.lease, [alice.pk], leader.expected, timezone.now()) == set()
    leader.end(workflow)
    assert not is_active(alice)


def test_a_user_who_has_cancelled_everything_meanwhile_leaves_the_queue_instead_of_being_admitted(leader: Leader) -> None:
    alice = new_user()
    Job.objects.filter(workflow=submit(alice)).update(state="CANCELLED")
    with leader.lease.transaction():
        assert admit_users(leader.lease, [alice.pk], leader.expected, User.objects.get(pk=alice.pk).date_joined) == set()
    assert not waits(alice)
    assert not is_active(alice)


# -- what follows from a failure


def test_a_failed_head_lets_its_branch_go_on_by_default(leader: Leader) -> None:
    workflow = submit(new_user(), "j1", "j2")
    leader.look()
    leader.end(workflow, "j1", F, error="Tile 3: boom")
    assert states(workflow) == {"j1": "FAILED", "j2": "RUNNING"}
    leader.end(workflow, "j2")
    assert status(workflow) == "FAILED"


def test_a_failed_head_stops_the_rest_of_its_branch_in_its_workflow_when_asked(leader: Leader) -> None:
    alice = new_user()
    workflow = submit(alice, "j1", "j2", "j3", "k1 b2", "k2 b2", on_failure="stop", branch_scope="user")
    later = submit(alice, "j1", branch_scope="user")
    leader.settle()
    leader.end(workflow, "j1", F)
    assert states(workflow) == {"j1": "FAILED", "j2": "CANCELLED", "j3": "CANCELLED", "k1": "RUNNING", "k2": "PENDING"}
    assert job_of(workflow, "j2").error == "job j1 before it in the branch has failed"
    assert states(later) == {"j1": "RUNNING"}


def test_a_cancelled_head_does_not_stop_its_branch(leader: Leader) -> None:
    workflow = submit(new_user(), "j1", "j2", on_failure="stop")
    leader.look()
    leader.end(workflow, "j1", C)
    assert states(workflow) == {"j1": "CANCELLED", "j2": "RUNNING"}


def masked(user: User, **fields: str) -> tuple[JobRequest, ...]:
    """A mask, a segmentation that reads it, and a job that does not."""
    slide = new_slide(user).pk
    return (
        JobRequest(job_id="mask", branch="b1", job_type="TISSUE_MASK", slide=slide),
        JobRequest(job_id="cells", branch="b1", job_type="SEGMENT_CELLS", slide=slide),
        JobRequest(job_id="other", branch="b1", job_type="SEGMENT_CELLS", slide=new_slide(user, "b.tiff").pk),
    )


@pytest.mark.parametrize(("state", "word"), [(F, "failed"), (C, "cancelled")])
def test_a_segmentation_whose_mask_has_failed_is_cancelled_with_that_reason(leader: Leader, state: object, word: str) -> None:
    user = new_user()
    workflow = submit(user, *masked(user))
    leader.look()
    leader.end(workflow, "mask", state)  # type: ignore[arg-type]
    assert states(workflow)["cells"] == "CANCELLED"
    assert job_of(workflow, "cells").error == f"its input, job mask, has {word}"
    leader.settle()
    assert states(workflow)["other"] == "RUNNING"


def test_a_segmentation_gets_the_mask_before_it_on_the_same_slide(leader: Leader) -> None:
    user = new_user()
    workflow = submit(user, *masked(user))
    leader.look()
    (claimed,) = leader.end(workflow, "mask", artifacts=({"name": "mask.png", "sha256": "00"},)).claimed
    assert [(ref.job, ref.job_type) for ref in claimed.spec.inputs] == [(str(job_of(workflow, "mask").uuid), "TISSUE_MASK")]
    assert claimed.spec.slide is not None
    assert claimed.spec.slide.mpp == 0.5
    (claimed,) = leader.end(workflow, "cells").claimed
    assert claimed.spec.inputs == ()


def test_a_simulated_job_reads_no_input(leader: Leader) -> None:
    workflow = submit(new_user(), JobRequest(job_id="mask", branch="b1", job_type="TISSUE_MASK"), "cells")
    leader.look()
    leader.end(workflow, "mask", F)
    assert states(workflow) == {"mask": "FAILED", "cells": "RUNNING"}


def test_a_workflow_whose_last_job_is_cancelled_for_its_input_ends_and_its_user_leaves(leader: Leader) -> None:
    user = new_user()
    workflow = submit(user, *masked(user)[:2])
    leader.look()
    leader.end(workflow, "mask", F)
    leader.settle()
    assert (status(workflow), is_active(user)) == ("FAILED", False)


# -- take-over and progress


def test_a_new_leader_carries_running_jobs_on_with_new_epochs(leader: Leader) -> None:
    workflow = submit(new_user(), "j1", "j2 b2", "j3 b2")
    leader.look()
    Job.objects.filter(pk=job_of(workflow, "j1").pk).update(tiles_processed=6)
    workflow_cancel(workflow=workflow, actor="alice")
    new = lead("new/1/1.0")
    with new.lease.transaction():
        taken = take_over_jobs(new.lease, timezone.now())
    assert [(found.epoch, found.tiles_total, found.tiles_processed, found.cancel_requested) for found in taken] == [
        (3, None, 6, True),
        (4, None, 0, True),
    ]
    assert list(Job.objects.filter(state="RUNNING").order_by("id").values_list("epoch", "term", "attempt")) == [(3, 2, 1), (4, 2, 1)]


def test_progress_is_written_in_one_statement_and_only_for_the_claim_that_made_it(
    leader: Leader, django_assert_num_queries: object
) -> None:
    workflow = submit(new_user(), "j1", "j2 b2", "j3 b3")
    entries = [Entry(claimed=claimed) for claimed in leader.look().claimed]
    for entry in entries:
        entry.mark_done(range(5))
    Job.objects.filter(pk=job_of(workflow, "j2").pk).update(epoch=99)
    leader.end(workflow, "j3", C, tiles_processed=1)
    with django_assert_num_queries(1):  # type: ignore[operator]
        save_progress(entries)
    assert [job_of(workflow, job_id).tiles_processed for job_id in ("j1", "j2", "j3")] == [5, 0, 1]


def test_the_pace_of_running_jobs_goes_with_their_progress(leader: Leader) -> None:
    workflow = submit(new_user(), "j1 a", "j2 b")
    Job.objects.update(tiles_per_s=9.0)  # of an earlier attempt
    entries = [Entry(claimed=claimed) for claimed in leader.look().claimed]
    entries[0].tiles_per_s = 2.5
    save_progress(entries)
    assert [job_of(workflow, job_id).tiles_per_s for job_id in ("j1", "j2")] == [2.5, None]


def test_progress_of_nobody_needs_no_statement(django_assert_num_queries: object) -> None:
    with django_assert_num_queries(0):  # type: ignore[operator]
        save_progress([])


def test_a_pass_without_anything_to_do_decides_nothing_and_costs_few_statements(
    leader: Leader, django_assert_max_num_queries: object
) -> None:
    for n in range(8):
        submit(new_user(f"user{n}"), *[f"j{k} b{k % 4}" for k in range(12)])
    leader.settle()
    with django_assert_max_num_queries(17):  # type: ignore[operator]
        result = leader.look()
    assert (result.has_decided, result.ended, result.claimed, result.cancel) == (False, (), (), frozenset())

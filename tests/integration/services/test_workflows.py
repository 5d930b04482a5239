"""Use cases of workflows: what is refused and where, what an Idempotency-Key does, what a delete leaves behind."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from django.utils import timezone
from redis import RedisError

from scheduling.errors import Conflict, Invalid, KeyReused, NotFound
from scheduling.models import Event, IdempotencyKey, Job, Slide, User, Workflow
from scheduling.protocol.inbox import Inbox, connect
from scheduling.services import workflows as services
from scheduling.services.workflows import (
    Idempotency,
    JobRequest,
    WorkflowRequest,
    idempotent_replay,
    job_cancel,
    job_retry,
    workflow_cancel,
    workflow_delete,
    workflow_retry,
    workflow_submit,
)
from tests.integration.working import F, at_once, job_of, lead, new_slide, new_user, refuse_exceptions, request, states, submit, waits

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    """The owner."""
    return new_user()


def a_job(**changes: Any) -> JobRequest:
    """A simulated segmentation, with some of that changed."""
    return JobRequest(**{"job_id": "j1", "branch": "b1", "job_type": "SEGMENT_CELLS", **changes})


# -- submission


def test_a_workflow_is_stored_as_it_was_asked_for(alice: User) -> None:
    slide = new_slide(alice)
    jobs = (a_job(parameters={}), a_job(job_id="j2", job_type="TISSUE_MASK", branch="b2"))
    workflow = workflow_submit(
        user=alice, request=WorkflowRequest(jobs=jobs, name="Batch 14", slide=slide.pk, branch_scope="user", on_failure="stop")
    )
    workflow.refresh_from_db()
    assert (workflow.name, workflow.slide, workflow.branch_scope, workflow.on_failure) == ("Batch 14", slide, "user", "stop")
    rows = list(Job.objects.order_by("id").values_list("job_id", "slide_id", "tiles_total", "state", "attempt", "owner__username"))
    assert rows == [("j1", slide.pk, None, "PENDING", 1, "alice"), ("j2", slide.pk, None, "PENDING", 1, "alice")]
    assert waits(alice)


def test_a_jobs_own_slide_goes_before_its_workflows(alice: User) -> None:
    own, shared = new_slide(alice, "own.tiff"), new_slide(alice, "shared.tiff")
    workflow = submit(alice, a_job(slide=own.pk), a_job(job_id="j2"), slide=shared.pk)
    assert [job_of(workflow, name).slide for name in ("j1", "j2")] == [own, shared]


def test_a_simulated_job_knows_its_tiles_from_the_start(alice: User) -> None:
    workflow = submit(alice, a_job(parameters={"tiles": 7, "fail_at_tile": 6}), a_job(job_id="j2", job_type="INSTANSEG_WSI"))
    assert [job_of(workflow, name).tiles_total for name in ("j1", "j2")] == [7, 60]


NO_SLIDE = UUID(int=1)


@pytest.mark.parametrize(
    ("jobs", "field", "words"),
    [
        ([a_job(), a_job(job_id="j2"), a_job()], "jobs[2].job_id", "'j1' is used twice"),
        ([a_job(), a_job(job_id="j2", job_type="DREAM")], "jobs[1].job_type", "'DREAM' is not a job type"),
        ([a_job(slide=NO_SLIDE)], "jobs[0].slide", f"no slide {NO_SLIDE}"),
        ([a_job(parameters={"tiles": 0})], "jobs[0].parameters.tiles", "0 is less than the minimum of 1"),
        ([a_job(), a_job(job_id="j2", parameters={"tiles": "7"})], "jobs[1].parameters.tiles", "'7' is not of type 'integer'"),
        ([a_job(parameters={"tile": 7})], "jobs[0].parameters", "'tile' was unexpected"),
        ([a_job(parameters={"seconds_per_tile": float("nan")})], "jobs[0].parameters", "finite"),
        ([a_job(parameters={"seconds_per_tile": float("inf")})], "jobs[0].parameters.seconds_per_tile", "greater than the maximum"),
        ([a_job(parameters={"tiles": 5, "fail_at_tile": 5})], "jobs[0].parameters.fail_at_tile", "below the number of tiles"),
        ([a_job(parameters={"fail_at_tile": 20})], "jobs[0].parameters.fail_at_tile", "below the number of tiles"),
    ],
)
def test_what_the_domain_refuses_is_named_and_leaves_nothing_behind(alice: User, jobs: list[JobRequest], field: str, words: str) -> None:
    with pytest.raises(Invalid) as refusal:
        submit(alice, *jobs)
    assert refusal.value.field == field
    assert words in refusal.value.message
    assert not Workflow.objects.exists()
    assert not Event.objects.exists()
    assert not waits(alice)


def refused_slide(user: User, slide: UUID, **fields: Any) -> Invalid:
    """How a real job on this slide is refused."""
    with pytest.raises(Invalid) as refusal:
        submit(user, a_job(**fields), slide=slide)
    return refusal.value


def test_a_slide_of_another_user_does_not_exist_and_of_a_deleted_one_neither(alice: User) -> None:
    theirs = new_slide(new_user("bob"))
    gone = new_slide(alice, deleted_at=timezone.now())
    assert refused_slide(alice, theirs.pk).field == "slide"
    assert refused_slide(alice, gone.pk).message == f"There is no slide {gone.pk}."


def test_staff_may_use_the_slide_of_any_user() -> None:
    theirs = new_slide(new_user("bob"))
    workflow = submit(new_user("stefanie", is_staff=True), slide=theirs.pk)
    assert job_of(workflow).slide == theirs


def test_a_slide_without_microns_per_pixel_is_refused_with_what_to_do(alice: User) -> None:
    slide = new_slide(alice, mpp=None)
    refusal = refused_slide(alice, slide.pk)
    assert refusal.field == "jobs[0].slide"
    assert f"PATCH /slide/{slide.pk}" in refusal.message


def test_a_real_job_takes_none_of_the_simulations_parameters(alice: User) -> None:
    refusal = refused_slide(alice, new_slide(alice).pk, parameters={"tiles": 5})
    assert refusal.field == "jobs[0].parameters"


@pytest.mark.django_db(transaction=True)
def test_a_submission_wakes_the_scheduler(alice: User) -> None:
    submit(alice)
    inbox = Inbox(connect(settings.ENV.redis_url))
    assert inbox.take(1, timeout_s=0) == ([], True)


def test_a_submission_without_redis_is_taken_all_the_same(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise RedisError("away")

    monkeypatch.setattr(services._inbox(), "poke", away)
    assert states(submit(alice)) == {"j1": "PENDING"}


# -- Idempotency-Key


def keyed(user: User, key: str = "k", body: str = "00") -> Workflow:
    """Submit with a key."""
    return workflow_submit(user=user, request=request("j1"), idempotency=Idempotency(key=key, body_sha256=body))


def test_a_key_gives_its_first_answer_again(alice: User) -> None:
    first = keyed(alice)
    assert keyed(alice).uuid == first.uuid
    assert idempotent_replay(user=alice, idempotency=Idempotency(key="k", body_sha256="00")) == first
    assert Workflow.objects.count() == 1


def test_a_key_with_another_body_is_refused(alice: User) -> None:
    keyed(alice)
    with pytest.raises(KeyReused):
        keyed(alice, body="11")
    with pytest.raises(KeyReused):
        idempotent_replay(user=alice, idempotency=Idempotency(key="k", body_sha256="11"))


def test_keys_of_two_users_and_two_keys_of_one_are_strangers(alice: User) -> None:
    keyed(alice), keyed(alice, "l"), keyed(new_user("bob"))
    assert Workflow.objects.count() == 3


def test_an_unknown_key_has_no_answer(alice: User) -> None:
    assert idempotent_replay(user=alice, idempotency=Idempotency(key="k", body_sha256="00")) is None


@pytest.mark.parametrize(("age", "workflows"), [(timedelta(hours=23, minutes=59), 1), (timedelta(hours=24, minutes=1), 2)])
def test_a_key_counts_for_24_hours(alice: User, age: timedelta, workflows: int) -> None:
    keyed(alice)
    IdempotencyKey.objects.update(created_at=timezone.now() - age)
    keyed(alice)
    assert (Workflow.objects.count(), IdempotencyKey.objects.count()) == (workflows, 1)


def test_a_refused_request_does_not_use_its_key(alice: User) -> None:
    with pytest.raises(Invalid):
        workflow_submit(user=alice, request=request("j1", "j1"), idempotency=Idempotency(key="k", body_sha256="00"))
    assert keyed(alice).jobs.count() == 1


def test_the_first_answer_outlives_its_workflow(alice: User) -> None:
    first = keyed(alice)
    workflow_cancel(workflow=first, actor="alice")
    workflow_delete(workflow=first, actor="alice")
    assert keyed(alice).uuid == first.uuid
    assert not Workflow.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_same_key_many_times_at_once_makes_one_workflow(alice: User) -> None:
    results = at_once(*[lambda: keyed(alice)] * 4)
    refuse_exceptions(results)
    assert {found.uuid for found in results} == {Workflow.objects.get().uuid}


# -- cancel, retry, delete


def test_what_has_ended_cannot_be_cancelled_and_what_has_not_failed_cannot_be_retried(alice: User) -> None:
    leader = lead()
    workflow = submit(alice)
    for retry in (lambda: workflow_retry(workflow=workflow, actor="alice"), lambda: job_retry(job=job_of(workflow), actor="alice")):
        with pytest.raises(Conflict, match="Nothing to do"):
            retry()
    leader.look()
    leader.end(workflow)
    events = Event.objects.count()
    for cancel in (lambda: workflow_cancel(workflow=workflow, actor="alice"), lambda: job_cancel(job=job_of(workflow), actor="alice")):
        with pytest.raises(Conflict, match="already finished"):
            cancel()
    assert Event.objects.count() == events


def test_a_job_whose_slide_was_deleted_is_not_retried(alice: User) -> None:
    slide = new_slide(alice)
    workflow = submit(alice, a_job(job_type="TISSUE_MASK", slide=slide.pk))
    workflow_cancel(workflow=workflow, actor="alice")
    Slide.objects.filter(pk=slide.pk).update(deleted_at=timezone.now())
    with pytest.raises(Conflict, match="The slide of job j1 was deleted"):
        workflow_retry(workflow=workflow, actor="alice")
    assert states(workflow) == {"j1": "CANCELLED"}


def test_one_job_is_cancelled_and_retried_alone(alice: User) -> None:
    workflow = submit(alice, "j1", "j2", "j3")
    job_cancel(job=job_of(workflow, "j2"), actor="alice")
    assert states(workflow) == {"j1": "PENDING", "j2": "CANCELLED", "j3": "PENDING"}
    job_retry(job=job_of(workflow, "j2"), actor="alice")
    assert states(workflow) == dict.fromkeys(("j1", "j2", "j3"), "PENDING")
    assert job_of(workflow, "j2").attempt == 2


def folders(job: Job) -> tuple[Path, Path]:
    """Where a job's results and tiles are."""
    return settings.DATA_DIR / "results" / str(job.uuid), settings.DATA_DIR / "tiles" / job.digest


def test_a_delete_removes_rows_and_moves_results_and_tiles_to_the_trash(alice: User) -> None:
    leader = lead()
    workflow, other = submit(alice), submit(alice)
    leader.look()
    leader.end(workflow, state=F)
    job, kept = job_of(workflow), job_of(other)
    for folder in (*folders(job), *folders(kept)):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    before = len(list((settings.DATA_DIR / "trash").glob("*")))
    workflow_delete(workflow=workflow, actor="alice")
    assert [folder.exists() for folder in folders(job)] == [False, False]
    assert [folder.exists() for folder in folders(kept)] == [True, True]
    assert len(list((settings.DATA_DIR / "trash").glob("*"))) == before + 2
    assert (Workflow.objects.get(), Job.objects.get()) == (other, kept)
    assert Event.objects.filter(type="workflow.deleted", workflow_uuid=workflow.uuid, actor="alice").exists()


def test_an_unfinished_workflow_is_not_deleted(alice: User) -> None:
    workflow = submit(alice, "j1", "j2")
    job_cancel(job=job_of(workflow), actor="alice")
    with pytest.raises(Conflict, match="cancel it first"):
        workflow_delete(workflow=workflow, actor="alice")
    assert Job.objects.count() == 2


def test_a_workflow_that_is_gone_meanwhile_is_not_found(alice: User) -> None:
    workflow = submit(alice)
    workflow_cancel(workflow=workflow, actor="alice")
    workflow_delete(workflow=workflow, actor="alice")
    for change in (workflow_delete, workflow_cancel, workflow_retry):
        with pytest.raises(NotFound):
            change(workflow=workflow, actor="alice")

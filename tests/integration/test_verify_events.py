"""`manage.py verify_events` on the log that the product wrote: clean after real passes, and not when a row was taken away or altered."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from scheduling.audit.log_event import LogEvent
from scheduling.models import Event, Job, Workflow
from scheduling.selectors.log import log_events
from scheduling.services.workflows import (
    JobRequest,
    job_cancel,
    workflow_cancel,
    workflow_delete,
    workflow_pause,
    workflow_resume,
    workflow_retry,
)
from scheduling.states import JobState
from tests.integration.working import C, F, Leader, job_of, lead, new_user, submit
from tests.unit.audit.story import Story

pytestmark = pytest.mark.django_db

PENDING = JobState.PENDING


def verify(*args: str) -> tuple[int, str]:
    """Exit code and output."""
    out = io.StringIO()
    try:
        call_command("verify_events", *args, stdout=out)
    except SystemExit as ended:
        return int(str(ended.code)), out.getvalue()
    return 0, out.getvalue()


def violations(*args: str) -> list[dict[str, Any]]:
    """What `--json` tells."""
    code, text = verify("--json", *args)
    told = json.loads(text)
    assert (code == 1) is bool(told["violations"])
    found: list[dict[str, Any]] = told["violations"]
    return found


def elected(holder: str = "test/1/1.0", **limits: Any) -> Leader:
    """A leader that has told of its election, as the loop does."""
    from scheduling.store.claims import take_over_jobs
    from scheduling.store.events import leader_event, record

    leader = lead(holder, **limits)
    with leader.lease.transaction():
        told = {"max_workers": leader.max_workers, "max_active_users": leader.max_active_users, "slot_max_s": leader.slot_max_s}
        record([leader_event("leader.elected", leader.lease.term, holder=holder, **told)])
        leader.held = {taken.job: taken for taken in take_over_jobs(leader.lease, timezone.now())}
    return leader


def whole(leader: Leader, workflow: Workflow, job_id: str = "j1") -> Any:
    """The end of a job with all its tiles."""
    from scheduling.tilestore.tilefiles import index_digest

    total = job_of(workflow, job_id).tiles_total or 0
    return leader.ending(workflow, job_id, index_sha256=index_digest([[0, total]]))


def finish_all(leader: Leader) -> None:
    """End everything that runs until nothing is left."""
    leader.settle()
    while leader.held:
        jobs = Job.objects.select_related("workflow").filter(pk__in=leader.held)
        leader.look(*[whole(leader, job.workflow, job.job_id) for job in jobs])
        leader.settle()


def busy_day() -> None:
    """Two users, failures, cancels, retries, a pause, a tenure, a new leader, a deletion, until all has ended."""
    alice, bob = new_user("alice"), new_user("bob")
    leader = elected(max_active_users=1)
    needing = JobRequest(job_id="j3", branch="b2", job_type="SEGMENT_CELLS", depends_on=("j1",))
    first = submit(alice, "j1 b1", "j2 b1", needing, "j4 b3")
    shared = submit(bob, "j1 b1", "j2 b1", branch_scope="user")
    leader.settle()
    leader.end(first, "j1", F, error="tile 3: it broke")
    leader.settle()
    workflow_retry(workflow=first, actor="alice")
    leader.settle()
    leader = elected("test/2/1.0", max_active_users=1)
    workflow_pause(workflow=first, actor="alice")
    leader.settle()
    leader.look(*[leader.ending(first, job.job_id, PENDING, tiles_processed=3, reason="its workflow is paused") for job in running()])
    leader.settle()
    workflow_resume(workflow=first, actor="alice")
    job_cancel(job=job_of(shared, "j1"), actor="bob")
    leader.settle()
    leader.look(
        *[leader.ending(job.workflow, job.job_id, C, tiles_processed=0, error="cancelled") for job in running() if job.cancel_requested]
    )
    finish_all(leader)
    gone = submit(bob, "j1")
    workflow_cancel(workflow=gone, actor="bob")
    workflow_delete(workflow=gone, actor="bob")
    finish_all(leader)


def running() -> list[Job]:
    """Jobs that run."""
    return list(Job.objects.select_related("workflow").filter(state=JobState.RUNNING))


def test_the_log_of_real_passes_breaks_no_rule_and_the_answer_says_what_was_checked() -> None:
    busy_day()
    code, text = verify("--finished")
    assert (code, text) == (0, f"no rule is broken: {Event.objects.count()} events, 7 jobs, 2 users, 2 terms, 0 jobs unfinished\n")


def test_every_start_within_the_log_breaks_no_rule() -> None:
    busy_day()
    for since in Event.objects.values_list("id", flat=True):
        assert violations("--since", str(since)) == []


def test_an_unfinished_log_agrees_with_the_rows_and_is_not_finished() -> None:
    alice = new_user()
    leader = elected()
    flow = submit(alice, "j1", "j2")
    leader.settle()
    assert violations() == []
    assert {found["job"] for found in violations("--finished")} == {str(job_of(flow, name).uuid) for name in ("j1", "j2")}


@pytest.mark.parametrize("kind", ["job.submitted", "job.started", "job.finished", "job.retried", "user.admitted", "workflow.finished"])
def test_a_row_taken_out_of_the_log_is_found(kind: str) -> None:
    busy_day()
    row = Event.objects.filter(type=kind).first()
    assert row is not None
    row.delete()
    assert violations("--finished")


@pytest.mark.parametrize(("field", "rule"), [("epoch", "epochs-rise"), ("term", "term-of-leader")])
def test_a_row_altered_in_the_log_is_found(field: str, rule: str) -> None:
    busy_day()
    row = Event.objects.filter(type="job.started").order_by("-id").first()
    assert row is not None
    Event.objects.filter(pk=row.pk).update(**{field: 1})
    assert rule in {found["rule"] for found in violations()}


@pytest.mark.parametrize("change", [{"state": "PENDING"}, {"epoch": 99}, {"attempt": 7}, {"state": "CANCELLED"}])
def test_a_job_whose_row_differs_from_the_log_is_found(change: dict[str, Any]) -> None:
    flow = submit(new_user(), "j1")
    elected().settle()
    Job.objects.filter(workflow=flow).update(**change)
    (found,) = violations()
    assert (found["rule"], found["job"]) == ("rows-agree", str(job_of(flow).uuid))


def test_a_finished_job_whose_row_waits_again_is_found() -> None:
    busy_day()
    job = Job.objects.order_by("pk").first()
    assert job is not None
    Job.objects.filter(pk=job.pk).update(state="PENDING")
    assert [found["job"] for found in violations()] == [str(job.uuid)]


def test_a_job_of_which_the_log_has_grown_meanwhile_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = submit(new_user(), "j1")
    leader = elected()
    kept = list(log_events())
    leader.settle()
    monkeypatch.setattr("scheduling.selectors.log.log_events", lambda since: iter(kept))
    assert violations() == []
    assert job_of(flow).state == JobState.RUNNING


def test_a_log_that_was_trimmed_is_judged_from_the_mark_on() -> None:
    busy_day()
    mark = timezone.now() + timedelta(minutes=1)
    Event.objects.all().delete()
    Event.objects.create(type="log.trimmed", actor="scheduler", data={"before": mark.isoformat(), "deleted": 50})
    leader = elected("test/3/1.0")
    flow = submit(new_user("carol"), "j1")
    finish_all(leader)
    later = mark + timedelta(minutes=1)
    Event.objects.update(at=later)
    assert violations("--finished") == []
    Event.objects.filter(type="job.finished", workflow_uuid=flow.uuid).update(epoch=77)
    assert {found["rule"] for found in violations("--finished")} == {"epoch-of-claim"}


def lines(path: Path, events: list[LogEvent]) -> Path:
    """A log as the simulator writes it."""
    path.write_text("".join(json.dumps(event.to_json()) + "\n" for event in events))
    return path


def test_a_file_is_verified_as_the_database_is(tmp_path: Path) -> None:
    story = Story()
    flow = story.submit(1, "a x", "b x")
    story.admit(1)
    for name in "ab":
        story.start(flow[name])
        story.finish(flow[name])
    story.release(1)
    path = lines(tmp_path / "log.jsonl", story.events)
    assert verify("--file", str(path), "--finished") == (
        0,
        f"no rule is broken: {len(story.events)} events, 2 jobs, 1 users, 1 terms, 0 jobs unfinished\n",
    )
    lines(path, [event for event in story.events if event.type != "user.released"])
    code, text = verify("--file", str(path), "--finished")
    assert (code, text.split(":")[0], text.count("\n")) == (1, "slot-given-up", 1)


def test_a_file_that_is_no_log_is_refused_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"id": 1}\n')
    with pytest.raises(CommandError, match="line 1"):
        verify("--file", str(path))
    with pytest.raises(CommandError, match="No such file"):
        verify("--file", str(tmp_path / "nothing"))

"""Writers of SQLite begin in turn; nothing that can be done before a transaction is done in one."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from scheduling.errors import Invalid
from scheduling.models import Annotation, Event, Job, Slide, Workflow
from scheduling.services import dependencies, limits, workflows
from scheduling.services.workflows import JobRequest, WorkflowRequest, workflow_submit
from scheduling.store.users import lock_users
from tests.integration.working import new_slide, new_user
from tests.support.waiting import eventually
from workflowsite.sqlite.base import COURTESY_S, Line

SQUARE = {"x": 0, "y": 0, "width": 100, "height": 100}


def on(slide: Slide, **changes: Any) -> WorkflowRequest:
    """Two jobs on a slide, the second after the first, both in a region."""
    jobs = tuple(
        JobRequest(job_id=name, branch=name, job_type="SEGMENT_CELLS", depends_on=needs, **changes)
        for name, needs in (("a", ()), ("b", ("a",)))
    )
    return WorkflowRequest(jobs=jobs, slide=slide.pk, region=SQUARE)


@pytest.mark.django_db(transaction=True)
def test_checks_are_made_before_the_transaction_and_never_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, bool]] = []

    def watch(module: Any, name: str) -> None:
        real = getattr(module, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            made.append((name, connection.in_atomic_block))
            return real(*args, **kwargs)

        monkeypatch.setattr(module, name, watched)

    watch(workflows, "_validator")
    watch(dependencies, "find_circle")
    watch(limits, "on_slide")
    watch(limits, "read_area")
    slide = new_slide(new_user())
    workflow_submit(user=slide.owner, request=on(slide))
    workflow_submit(user=slide.owner, request=WorkflowRequest(jobs=(JobRequest(job_id="a", branch="a", job_type="SEGMENT_CELLS"),)))
    assert {name for name, _ in made} == {"_validator", "find_circle", "on_slide", "read_area"}
    assert not [name for name, is_inside in made if is_inside]


def nothing_is_left() -> bool:
    return not (Workflow.objects.exists() or Job.objects.exists() or Event.objects.filter(type__startswith="workflow").exists())


def delete_after_the_checks(model: type[Slide] | type[Annotation], monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody deletes all of these between the checks and the lock."""

    def deleted_first(keys: Any) -> Any:
        model.objects.update(deleted_at="2026-01-01T00:00:00Z")
        return lock_users(keys)

    monkeypatch.setattr(workflows, "lock_users", deleted_first)


@pytest.mark.django_db
def test_a_slide_deleted_after_the_checks_is_refused_and_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    slide = new_slide(new_user())
    delete_after_the_checks(Slide, monkeypatch)
    with pytest.raises(Invalid, match="There is no slide") as refused:
        workflow_submit(user=slide.owner, request=on(slide))
    assert refused.value.field == "slide"
    assert nothing_is_left()


@pytest.mark.django_db
def test_an_annotation_deleted_after_the_checks_is_refused_and_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    slide = new_slide(new_user())
    annotation = Annotation.objects.create(slide=slide, name="a", size_bytes=1, sha256="", features=1, area_px=1)
    delete_after_the_checks(Annotation, monkeypatch)
    with pytest.raises(Invalid, match="There is no annotation") as refused:
        workflow_submit(user=slide.owner, request=on(slide, annotation=annotation.pk))
    assert refused.value.field == "jobs[0].annotation"
    assert nothing_is_left()


def stand(line: Line, name: str, order: list[str]) -> None:
    with line.head(time.monotonic() + 30):
        order.append(name)


def test_threads_come_to_the_head_of_the_line_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    line = Line(str(tmp_path / "turn"))
    order: list[str] = []
    with line.head(time.monotonic() + 30):
        threads = []
        for number in range(8):
            threads.append(threading.Thread(target=stand, args=(line, str(number), order)))
            threads[-1].start()
            eventually(lambda n=number: len(line._waiting) == n + 1, "the next in line")  # type: ignore[misc]
    for thread in threads:
        thread.join()
    assert order == [str(number) for number in range(8)]


def test_a_thread_that_waits_too_long_is_refused_and_holds_nobody_up(tmp_path: Path) -> None:
    line = Line(str(tmp_path / "turn"))
    order: list[str] = []
    with line.head(time.monotonic() + 30), pytest.raises(OperationalError, match="database is locked"):
        _refused_at_once(line)
    stand(line, "next", order)
    assert order == ["next"]


def _refused_at_once(line: Line) -> None:
    with line.head(time.monotonic()):
        raise AssertionError("came to the head while another stood there")


def test_a_process_that_stays_at_the_head_delays_a_writer_by_no_more_than_courtesy_asks(tmp_path: Path) -> None:
    order: list[str] = []
    # What is opened twice is locked as by two processes.
    descriptor = os.open(tmp_path / "turn", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        began = time.monotonic()
        stand(Line(str(tmp_path / "turn")), "ours", order)
    finally:
        os.close(descriptor)
    assert order == ["ours"]
    assert time.monotonic() - began >= COURTESY_S


@pytest.mark.django_db(transaction=True)
def test_a_transaction_waits_for_a_writer_outside_the_line() -> None:
    if connection.vendor != "sqlite":
        return
    other = sqlite3.connect(str(connection.settings_dict["NAME"]), check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.3, other.rollback).start()
    with transaction.atomic():
        assert not other.in_transaction
    other.close()

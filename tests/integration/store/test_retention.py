"""Old events are removed a few at a time by the leader, never those of unfinished work, and the log says that it was done."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from django.utils import timezone

from scheduling.engine.config import EngineConfig
from scheduling.leader.housekeeping import Housekeeper
from scheduling.models import Event, MetricSample, Workflow
from scheduling.store import retention
from scheduling.store.lease import Deposed
from scheduling.store.retention import EventTrimmer
from tests.integration.store.test_query_plans import plan_of, statements, walks_among
from tests.integration.working import lead, new_user, submit

pytestmark = pytest.mark.django_db

BEFORE = datetime(2026, 1, 1, tzinfo=UTC)


def events(count: int, workflow: UUID | None = None, age: timedelta = timedelta(days=1)) -> None:
    """Events that are so much older than BEFORE."""
    Event.objects.bulk_create(Event(type="job.started", workflow_uuid=workflow, actor="x", at=BEFORE - age) for _ in range(count))


def left() -> int:
    """Events but the mark of the trimming."""
    return Event.objects.exclude(type="log.trimmed").count()


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 10)
    monkeypatch.setattr(retention, "BREATH_S", 0.0)


def test_a_round_removes_what_is_too_old_and_tells_how_much() -> None:
    events(25, uuid4())
    events(3, age=timedelta(seconds=-1))
    lease = lead().lease
    assert not EventTrimmer().round(lease, BEFORE)
    assert left() == 3
    [mark] = Event.objects.filter(type="log.trimmed")
    assert (mark.actor, mark.term, mark.data) == ("scheduler", lease.term, {"before": BEFORE.isoformat(), "deleted": 25})


def test_a_round_that_removes_nothing_tells_nothing() -> None:
    events(3, age=-timedelta(days=1))
    assert not EventTrimmer().round(lead().lease, BEFORE)
    assert not Event.objects.filter(type="log.trimmed").exists()


def test_a_round_is_bounded_and_the_next_goes_on() -> None:
    events(45)
    lease, trimmer = lead().lease, EventTrimmer()
    assert trimmer.round(lease, BEFORE, batches=2)
    assert left() == 25
    assert trimmer.round(lease, BEFORE, batches=2)
    assert not trimmer.round(lease, BEFORE, batches=2)
    assert left() == 0
    assert [mark.data["deleted"] for mark in Event.objects.filter(type="log.trimmed").order_by("id")] == [20, 20, 5]


def test_events_of_unfinished_workflows_stay_and_hold_nothing_up() -> None:
    going, done = submit(new_user()), submit(new_user("bob"))
    Event.objects.all().delete()
    Workflow.objects.filter(pk=done.pk).update(status="FAILED")
    events(30, going.uuid, timedelta(days=9))
    events(5, done.uuid)
    trimmer, lease = EventTrimmer(), lead().lease
    while trimmer.round(lease, BEFORE, batches=1):
        pass
    assert set(Event.objects.exclude(type="log.trimmed").values_list("workflow_uuid", flat=True)) == {going.uuid}
    assert left() == 30
    Workflow.objects.filter(pk=going.pk).update(status="CANCELLED")
    trimmer.round(lease, BEFORE)
    assert left() == 0


def test_a_deposed_leader_removes_nothing() -> None:
    events(5)
    old = lead().lease
    lead("next/1/1.0")
    with pytest.raises(Deposed):
        EventTrimmer().round(old, BEFORE)
    assert left() == 5


def test_old_events_are_found_by_their_age(monkeypatch: pytest.MonkeyPatch) -> None:
    Event.objects.bulk_create(Event(type="x", workflow_uuid=uuid4(), actor="x", at=BEFORE + timedelta(minutes=n)) for n in range(5000))
    lease, trimmer = lead().lease, EventTrimmer()
    trimmer.round(lease, BEFORE + timedelta(minutes=200), batches=1)
    sent = statements(lambda: trimmer.round(lease, BEFORE + timedelta(minutes=200), batches=1))
    [select] = [sql for sql in sent if sql.startswith("SELECT") and "workflow_uuid" in sql and "scheduling_event" in sql]
    assert "event_age" in "\n".join(plan_of(select))
    assert not walks_among([sql for sql in sent if "scheduling_event" in sql])


# -- the rounds of a scheduler's process


def housekeeper(tmp_path: Path, days: int) -> Housekeeper:
    return Housekeeper(EngineConfig(data_dir=tmp_path, max_workers=1, max_concurrent_users=1, event_retention_days=days))


def old_rows() -> tuple[int, int]:
    """(events, samples) that are older than a month."""
    since = timezone.now() - timedelta(days=30)
    return Event.objects.filter(at__lt=since).count(), MetricSample.objects.filter(at__lt=since).count()


@pytest.mark.parametrize(
    ("leads", "days", "expected"), [(True, 20, (0, 0)), (True, 0, (4, 0)), (True, 10_000, (4, 0)), (False, 20, (4, 2))]
)
def test_only_the_leaders_process_removes_and_only_what_is_not_kept_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leads: bool, days: int, expected: tuple[int, int]
) -> None:
    from scheduling.leader import housekeeping

    monkeypatch.setattr(housekeeping.connection, "close", lambda: None)
    ago = timezone.now() - timedelta(days=40)
    Event.objects.bulk_create(Event(type="x", actor="x", at=ago) for _ in range(4))
    MetricSample.objects.bulk_create(MetricSample(at=ago) for _ in range(2))
    lease = lead().lease
    housekeeper(tmp_path, days).round(lease if leads else None)
    assert old_rows() == expected

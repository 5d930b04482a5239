"""Statements over sets of rows: values come through both databases as they are, and a pass sends as many statements for one job as for fifty."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext

from scheduling.engine.entry import End
from scheduling.models import Event, Job, User, Workflow
from scheduling.states import JobState
from scheduling.store import sets
from scheduling.store.events import record, user_event
from tests.integration.working import Leader, lead, new_user, submit

pytestmark = pytest.mark.django_db

COLUMNS = {"a": "key", "b": "number", "c": "text", "d": "flag", "e": "uuid", "f": "moment", "g": "json"}
UUID_ = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")
ROWS = [
    (2**62, 0.1, 'it\'s 100 % "so" \\ ü 𝄞', True, UUID_, datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), {"k": ["v", 1, None]}),
    (-1, 1e-300, "", False, UUID(int=0), datetime(2026, 1, 2, tzinfo=UTC), []),
    (None, None, None, None, None, None, {}),
]


def test_every_kind_of_value_comes_back_as_it_was_sent_and_in_order() -> None:
    found = sets.ask(f"WITH v AS ({sets.table(**COLUMNS)}) SELECT a, b, c, d, e, f, g FROM v", *sets.rows(ROWS))
    assert [
        (a, b, c, None if d is None else bool(d), e and sets.as_uuid(e), sets.as_time(f), sets.as_json(g)) for a, b, c, d, e, f, g in found
    ] == ROWS


def test_a_set_without_rows_is_an_empty_table() -> None:
    assert sets.ask(f"WITH v AS ({sets.table(a='key')}) SELECT a FROM v", *sets.keys([])) == []


def test_what_is_listened_to_is_the_same_statement() -> None:
    asked = f"WITH v AS ({sets.table(**COLUMNS)}) SELECT a, b, c, d, e, f, g FROM v"
    with CaptureQueriesContext(connection) as captured:
        heard = sets.ask(asked, *sets.rows(ROWS))
    assert heard == sets.ask(asked, *sets.rows(ROWS))
    assert len(captured) == 1


def users_named(word: str) -> QuerySet[User, tuple[int]]:
    return User.objects.filter(username__startswith=word, pk__in=sets.given()).order_by("pk").values_list("pk")


def test_a_kept_query_is_asked_about_another_set_each_time() -> None:
    keys = [new_user(name).pk for name in ("ada", "ben", "abe", "ann")]
    for about, expected in ((keys, [keys[0], keys[2], keys[3]]), (keys[1:3], [keys[2]]), ([], []), (keys[:1], keys[:1])):
        assert [key for (key,) in sets.asked_once(users_named, "a", about=about)] == expected


def test_a_statement_that_fails_says_so_as_djangos_do() -> None:
    from django.db import DatabaseError

    with pytest.raises(DatabaseError), transaction.atomic():
        sets.ask("SELECT nothing FROM nowhere")
    assert sets.ask("SELECT 1") == [(1,)]


def test_events_get_their_numbers_in_the_order_in_which_they_are_told() -> None:
    record(user_event(f"user.{n}", n) for n in range(50))
    assert list(Event.objects.order_by("id").values_list("type", flat=True)) == [f"user.{n}" for n in range(50)]


def _ends(leader: Leader, count: int) -> list[End]:
    held = sorted(leader.held.values(), key=lambda claimed: claimed.job)[:count]
    return [End(job=one.job, epoch=one.epoch, state=JobState.SUCCEEDED, tiles_processed=20, tiles_total=20) for one in held]


def _statements(leader: Leader, ends: int) -> int:
    with CaptureQueriesContext(connection) as captured:
        result = leader.look(*_ends(leader, ends))
    assert (len(result.ended), len(result.claimed)) == (ends, ends)
    return len(captured)


def test_a_pass_sends_as_many_statements_for_one_end_and_start_as_for_fifty() -> None:
    leader = lead(max_workers=50)
    for n in range(3):
        submit(new_user(f"user{n}"), *[f"j{k} b{k % 60}" for k in range(300)])
    leader.settle()
    assert _statements(leader, 1) == _statements(leader, 50) <= 30


def test_a_pass_in_which_every_workflow_ends_costs_no_more_for_many() -> None:
    counts = []
    for flows in (1, 20):
        leader = lead(max_workers=20, max_active_users=1)
        user = new_user(f"of-{flows}")
        for _ in range(flows):
            submit(user)
        leader.settle()
        with CaptureQueriesContext(connection) as captured:
            leader.look(*_ends(leader, flows))
        counts.append(len(captured))
        assert set(Workflow.objects.filter(owner=user).values_list("status", flat=True)) == {"SUCCEEDED"}
        assert not Job.objects.filter(owner=user).exclude(state="SUCCEEDED").exists()
    assert counts[0] == counts[1]


def test_the_log_tells_the_start_of_a_workflow_after_its_first_job_and_its_end_after_its_last() -> None:
    leader = lead(max_workers=4)
    submit(new_user(), "j1 a", "j2 b")
    leader.settle()
    leader.look(*_ends(leader, 2))
    told = list(Event.objects.filter(type__regex="started|finished").order_by("id").values_list("type", flat=True))
    assert told == ["job.started", "workflow.started", "job.started", "job.finished", "job.finished", "workflow.finished"]

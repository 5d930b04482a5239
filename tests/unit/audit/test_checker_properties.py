"""Arbitrary right logs break no rule; what is changed in one is found."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scheduling.audit.log_event import LogEvent
from tests.unit.audit.driving_policy import MOVES, Crowd
from tests.unit.audit.story import check, rules_of

moves = st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 63)), max_size=40)
limits = st.fixed_dictionaries(
    {"max_workers": st.integers(1, 4), "max_active_users": st.integers(1, 3), "slot_max_s": st.sampled_from([0.0, 20.0])}
)
#: Types whose loss nothing in the log contradicts: a clean farewell, a deletion, a request that came too late to count,
#: a pause that changed nothing before the workflow ended, and queues that nothing was decided by before they changed again.
SILENT = {"leader.queues", "leader.resigned", "workflow.deleted", "job.cancel_requested", "workflow.paused", "workflow.resumed"}


def log_of(happened: list[tuple[str, int]], limited: dict[str, float]) -> list[LogEvent]:
    """The log of a crowd whose work has run out."""
    crowd = Crowd(**limited)
    crowd.move("submit", 5)
    for kind, number in happened:
        crowd.move(kind, number)
    crowd.run_out()
    return crowd.story.events


def renumbered(events: list[LogEvent]) -> list[LogEvent]:
    """With ids that rise."""
    return [replace(event, id=number) for number, event in enumerate(events, 1)]


@given(moves, limits)
@settings(max_examples=300, deadline=None)
def test_a_log_that_the_policy_made_breaks_no_rule(happened: list[tuple[str, int]], limited: dict[str, float]) -> None:
    assert [str(violation) for violation in check(log_of(happened, limited))] == []


@given(moves, limits, st.data())
@settings(max_examples=300, deadline=None)
def test_the_end_of_a_right_log_is_right_at_face_value(
    happened: list[tuple[str, int]], limited: dict[str, float], data: st.DataObject
) -> None:
    events = log_of(happened, limited)
    start = data.draw(st.integers(0, len(events) - 1))
    assert [str(violation) for violation in check(events[start:], is_partial=True)] == []


@given(moves, limits, st.data())
@settings(max_examples=300, deadline=None)
def test_the_loss_of_an_event_is_found(happened: list[tuple[str, int]], limited: dict[str, float], data: st.DataObject) -> None:
    events = log_of(happened, limited)
    lost = data.draw(st.sampled_from([event for event in events if event.type not in SILENT]))
    after = next((event.type for event in events if event.job == lost.job and event.id > lost.id and event.epoch), "")
    # A claim that changed nothing before the next one took its place leaves no trace, nor does a leader who did nothing.
    assume({lost.type, after} != {"job.taken_over"})
    assume(lost.type != "leader.elected" or any(event.term == lost.term for event in events if event is not lost))
    rest = renumbered([event for event in events if event is not lost])
    assert check(rest), str(lost)


@given(moves, limits, st.data())
@settings(max_examples=300, deadline=None)
def test_an_event_that_comes_twice_is_found(happened: list[tuple[str, int]], limited: dict[str, float], data: st.DataObject) -> None:
    events = log_of(happened, limited)
    index = data.draw(st.integers(0, len(events) - 1))
    assert "ids-rise" in rules_of(check([*events[: index + 1], *events[index:]]))
    if events[index].type != "job.cancel_requested":
        assert check(renumbered([*events[: index + 1], *events[index:]])), str(events[index])


@given(moves, limits, st.data())
@settings(max_examples=300, deadline=None)
def test_two_events_of_one_job_in_the_wrong_order_are_found(
    happened: list[tuple[str, int]], limited: dict[str, float], data: st.DataObject
) -> None:
    events = log_of(happened, limited)
    job = data.draw(st.sampled_from(sorted({event.job for event in events if event.job})))
    mine = [i for i, event in enumerate(events) if event.job == job]
    place = data.draw(st.integers(0, len(mine) - 2))
    first, second = mine[place], mine[place + 1]
    # A request to end is the web process's, a take-over the leader's: either may come first.
    assume({events[first].type, events[second].type} != {"job.taken_over", "job.cancel_requested"})
    swapped = list(events)
    swapped[first], swapped[second] = events[second], events[first]
    assert check(renumbered(swapped)), f"{events[first]} {events[second]}"


@given(moves, limits, st.data())
@settings(max_examples=200, deadline=None)
def test_a_changed_epoch_term_state_or_number_of_tiles_is_found(
    happened: list[tuple[str, int]], limited: dict[str, float], data: st.DataObject
) -> None:
    events = log_of(happened, limited)
    index = data.draw(
        st.sampled_from([i for i, event in enumerate(events) if event.type in {"job.started", "job.finished", "job.taken_back"}])
    )
    event = events[index]
    changed = [replace(event, term=event.term + 1), replace(event, epoch=event.epoch - 1)]
    if event.type == "job.finished":
        # That a job which was to be cancelled has failed is nothing that a log could contradict.
        others = {"FAILED", "CANCELLED"} if event.data["state"] == "SUCCEEDED" else {"SUCCEEDED"}
        changed += [replace(event, data={**event.data, "state": state}) for state in others]
        changed.append(replace(event, data={**event.data, "tiles": event.data["tiles_total"] + 1}))
    for other in changed:
        assert check([*events[:index], other, *events[index + 1 :]]), str(other)


def test_a_log_cut_before_the_queues_were_told_lets_a_slot_be_given_up() -> None:
    events = log_of([("submit", 17), ("pause", 0)], {"max_workers": 1, "max_active_users": 1, "slot_max_s": 0.0})
    assert events[0].type == "leader.elected"
    assert any(event.type == "user.released" and event.data.get("unserved") == ["gpu"] for event in events)
    assert [str(violation) for violation in check(events[1:], is_partial=True)] == []

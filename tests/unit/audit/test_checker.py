"""The checker finds nothing in a log that is right, and in a log that is wrong at one place the one rule that it breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from scheduling.audit.checker import RULES
from scheduling.audit.words import KNOWN
from scheduling.states import JobState
from tests.unit.audit import broken_queue, broken_work
from tests.unit.audit.broken import BROKEN, ended, told
from tests.unit.audit.story import C, F, S, Story, check, rules_of

#: Imported for the stories that they enter.
ENTERED_BY = (broken_queue, broken_work)


def long_story() -> Story:
    """Every kind of event once at least, all of them right."""
    story, flow = told("a x", "b x", "c y a", max_active_users=1, slot_max_s=60.0)
    other = story.submit(2, "a x", "b x", scope="user")
    story.start(flow["a"])
    story.elect()
    story.take_over(flow["a"])
    story.take_back(flow["a"], retry_in_s=5.0)
    story.wait(5.0)
    story.start(flow["a"])
    story.cancel(flow["a"], flow["b"])
    story.finish(flow["a"], C)
    story.retry(flow["a"], flow["b"])
    story.pause(flow)
    story.release(1)
    story.admit(2)
    story.pause(flow, paused=False)
    story.wait(61.0)
    story.requeue(2)
    story.admit(1)
    for name in "abc":
        story.start(flow[name])
        story.finish(flow[name])
    story.release(1)
    story.admit(2)
    story.start(other["a"])
    story.finish(other["a"], F)
    story.write("log.swept")
    story.write("scheduler.draining", actor="operator")
    story.write("scheduler.resumed", actor="operator")
    story.write("leader.resigned", term=story.term)
    story.elect()
    story.give_up(other["b"])
    story.retry(other["a"])
    ended(story, other["a"])
    idle = story.submit(3, "a x")
    story.cancel(idle["a"])
    without_device(story)
    story.write("workflow.deleted", user=2, workflow=other.uuid)
    return story


def without_device(story: Story) -> None:
    """A user whose next job needs a gpu gives the slot up when no worker has one, is passed over, and goes on when one is back."""
    story.expect("cpu", "gpu")
    flow = story.submit(4, "a x", "gpu x", "c x")
    story.admit(4)
    story.start(flow["a"])
    story.finish(flow["a"])
    story.expect("cpu")
    story.release_stuck(4)
    later = story.submit(5, "a x")
    story.admit(5)
    ended(story, later["a"])
    story.expect("cpu", "gpu")
    story.admit(4)
    ended(story, flow["gpu"], flow["c"])


@pytest.mark.parametrize(("rule", "name", "tell"), BROKEN, ids=[name for _, name, _ in BROKEN])
def test_a_log_that_breaks_one_rule_breaks_exactly_that_rule(rule: str, name: str, tell: Callable[[], Story]) -> None:
    found = check(tell().events)
    assert rules_of(found) == {rule}, [str(violation) for violation in found]


def test_every_rule_has_a_log_that_breaks_it() -> None:
    assert {rule for rule, _, _ in BROKEN} | {"rows-agree"} == RULES


def test_a_log_with_every_kind_of_event_breaks_no_rule() -> None:
    story = long_story()
    assert [str(violation) for violation in check(story.events)] == []
    assert {event.type for event in story.events} == KNOWN | {"log.swept"}


def test_an_unfinished_log_is_right_unless_everything_must_be_finished() -> None:
    story, flow = told("a x", "b x")
    story.start(flow["a"])
    assert check(story.events, finished=False) == []
    assert {violation.job for violation in check(story.events)} == {flow["a"].uuid, flow["b"].uuid}


def test_a_slot_that_is_kept_for_work_without_workers_is_found() -> None:
    story, flow = told("gpu x", "b x", "c y", queues=["cpu", "gpu"])
    story.start(flow["c"])
    story.expect("cpu")
    story.finish(flow["c"])
    story.elect()
    assert check(story.events, finished=False) == [], "the leader may not have looked yet"
    story.wait(60.0)
    story.elect()
    assert rules_of(check(story.events, finished=False)) == {"slot-given-up"}
    story.release_stuck(1)
    assert check(story.events, finished=False) == []


def test_a_log_from_before_queues_were_told_is_right() -> None:
    events = [event for event in long_story().events if event.user not in {4, 5} and event.type != "leader.queues"]
    told_less = [
        replace(event, data={key: value for key, value in event.data.items() if key not in {"queue", "queues"}}) for event in events
    ]
    assert [str(violation) for violation in check(told_less)] == []


def test_every_suffix_of_a_right_log_is_right_when_its_beginning_is_taken_at_face_value() -> None:
    events = long_story().events
    for start in range(len(events)):
        assert [str(violation) for violation in check(events[start:], is_partial=True)] == []


def test_a_trimmed_log_is_judged_from_the_mark_on() -> None:
    events = long_story().events
    mark = events[15].at
    trimmed = [event for event in events if event.at >= mark]
    assert [str(violation) for violation in check(trimmed, complete_from=mark)] == []
    last = max(event.id for event in trimmed if event.type == "user.released")
    wrong = [replace(event, term=99) if event.id == last else event for event in trimmed]
    assert rules_of(check(wrong, complete_from=mark)) == {"term-of-leader"}


def test_a_violation_names_rule_event_and_job_in_one_line() -> None:
    story, flow = told("a x", "b x")
    ended(story, flow["b"], flow["a"])
    (violation,) = check(story.events)
    line = str(violation)
    assert line.startswith(f"fifo-in-lane: event {violation.event} job.started, user 1, workflow {flow.uuid}, job {flow['b'].uuid}: job a ")
    assert "\n" not in line
    assert violation.to_json()["rule"] == "fifo-in-lane"


def test_the_states_in_stories_are_those_of_the_product() -> None:
    assert {S, F, C} == set(JobState) - {JobState.PENDING, JobState.RUNNING}

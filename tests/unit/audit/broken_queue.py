"""Stories that break one rule of lanes, places or slots each."""

from __future__ import annotations

from tests.unit.audit.broken import alter, broken, ended, told
from tests.unit.audit.story import Story


@broken("one-running-per-lane")
def two_jobs_of_a_lane_run() -> Story:
    story, flow = told("a x", "b x")
    story.start(flow["a"])
    story.start(flow["b"])
    story.finish(flow["a"])
    story.finish(flow["b"])
    return ended(story)


@broken("fifo-in-lane")
def the_second_job_of_a_lane_starts_first() -> Story:
    story, flow = told("a x", "b x")
    return ended(story, flow["b"], flow["a"])


@broken("fifo-in-lane")
def a_job_overtakes_one_that_waits_to_be_tried_again() -> Story:
    story, flow = told("a x", "b x")
    story.start(flow["a"])
    story.take_back(flow["a"], retry_in_s=30.0)
    ended(story, flow["b"])
    story.admit(1)
    story.wait(30.0)
    # The slot was given up for this story's sake alone: say that it was not.
    story.events = [event for event in story.events if not (event.type in {"user.released", "user.admitted"} and event.id > 9)]
    return ended(story, flow["a"])


@broken("fifo-in-lane")
def a_job_overtakes_a_paused_one_of_another_workflow() -> Story:
    story = Story()
    first = story.submit(1, "a x", scope="user")
    second = story.submit(1, "a x", scope="user")
    story.admit(1)
    story.pause(first)
    story.start(second["a"])
    story.finish(second["a"])
    story.pause(first, paused=False)
    return ended(story, first["a"])


@broken("queue-is-served")
def a_job_starts_without_a_worker_for_it() -> Story:
    story, flow = told("a x", "gpu y")
    return ended(story, flow["gpu"], flow["a"])


@broken("at-most-max-workers")
def more_jobs_run_than_places() -> Story:
    story, flow = told("a x", "b y", max_workers=1)
    story.start(flow["a"])
    story.start(flow["b"])
    story.finish(flow["a"])
    story.finish(flow["b"])
    return ended(story)


@broken("runs-in-a-slot")
def a_job_starts_for_a_user_who_waits() -> Story:
    story = Story()
    flow = story.submit(1, "a x", "b x")
    story.start(flow["a"])
    story.finish(flow["a"])
    story.admit(1)
    return ended(story, flow["b"])


@broken("at-most-max-users")
def more_users_than_slots() -> Story:
    story, flow = told(max_active_users=1)
    other = story.submit(2, "a x")
    story.admit(2)
    return ended(story, flow["a"], other["a"])


@broken("fifo-of-admission")
def the_later_user_is_admitted_first() -> Story:
    story = Story()
    flows = [story.submit(user, "a x") for user in (1, 2)]
    story.wait(2.0)
    story.admit(2)
    story.admit(1)
    return ended(story, *(flow["a"] for flow in flows))


@broken("fifo-of-admission")
def a_user_is_passed_over_although_the_worker_is_back() -> Story:
    story = Story()
    flows = [story.submit(1, "gpu x", "b x"), story.submit(2, "a x")]
    story.expect("cpu", "gpu")
    story.wait(2.0)
    story.admit(2)
    story.admit(1)
    return ended(story, flows[0]["gpu"], flows[0]["b"], flows[1]["a"])


@broken("fifo-of-admission")
def a_user_is_passed_over_who_has_something_else_that_can_run() -> Story:
    story = Story()
    flows = [story.submit(1, "gpu x"), story.submit(2, "a x"), story.submit(1, "a x")]
    story.wait(2.0)
    story.admit(2)
    story.admit(1)
    story.expect("cpu", "gpu")
    return ended(story, *(flow.jobs[0] for flow in flows))


@broken("fifo-of-admission")
def the_log_forgets_since_when_a_user_waited() -> Story:
    story, flow = told()
    return alter(ended(story, flow["a"]), "user.admitted", data={"waited_since": "2026-01-01T00:00:00+00:00"})


@broken("queue-moves")
def a_user_is_admitted_twice() -> Story:
    story, flow = told()
    story.admit(1)
    return ended(story, flow["a"])


@broken("queue-moves")
def a_slot_is_given_up_twice() -> Story:
    story, flow = told()
    ended(story, flow["a"])
    story.release(1)
    return story


@broken("work-to-wait-for")
def a_user_without_work_is_admitted() -> Story:
    story = Story()
    flow = story.submit(1, "a x")
    story.cancel(flow["a"])
    story.events.pop()
    story.admit(1, waited_since=story.events[3].data["since"])
    return ended(story)


@broken("work-to-wait-for")
def a_user_is_admitted_whose_work_waits_behind_what_cannot_run() -> Story:
    story, flow = told("gpu x", "b x", "c y gpu")
    story.expect("cpu", "gpu")
    return ended(story, *flow.jobs)


@broken("left-with-nothing")
def a_user_with_work_leaves_the_queue() -> Story:
    story = Story()
    flow = story.submit(1, "a x")
    story.write("user.left_queue", user=1)
    story.queue.clear()
    story.refresh(1)
    story.admit(1)
    return ended(story, flow["a"])


@broken("slot-kept-while-needed")
def a_slot_is_given_up_too_early() -> Story:
    story, flow = told("a x", "b x")
    ended(story, flow["a"])
    story.refresh(1)
    story.admit(1)
    return ended(story, flow["b"])


@broken("slot-kept-while-needed")
def a_slot_is_given_up_for_one_job_without_workers_although_another_can_run() -> Story:
    story, flow = told("gpu x", "b y")
    story.release_stuck(1)
    story.admit(1)
    story.start(flow["b"])
    story.finish(flow["b"])
    story.expect("cpu", "gpu")
    return ended(story, flow["gpu"])


@broken("queues-as-told")
def queues_change_to_what_they_were() -> Story:
    story, flow = told()
    story.expect("cpu")
    return ended(story, flow["a"])


@broken("queues-as-told")
def a_leader_begins_with_other_queues() -> Story:
    story, flow = told()
    story.elect(queues=["cpu", "gpu"])
    return ended(story, flow["a"])


@broken("slot-kept-while-running")
def a_slot_is_given_up_while_a_paused_job_still_runs() -> Story:
    story, flow = told()
    story.start(flow["a"])
    story.pause(flow)
    story.release(1)
    story.take_back(flow["a"])
    story.pause(flow, paused=False)
    story.admit(1)
    return ended(story, flow["a"])


@broken("tenure-is-over")
def a_tenure_ends_too_early() -> Story:
    story, flow = told(max_active_users=1, slot_max_s=60.0)
    other = story.submit(2, "a x")
    story.wait(50.0)
    story.requeue(1)
    story.admit(2)
    ended(story, other["a"])
    story.admit(1)
    return ended(story, flow["a"])


@broken("tenure-is-over")
def a_tenure_ends_for_nobody() -> Story:
    story, flow = told(slot_max_s=60.0)
    story.submit(2, "a x")
    story.wait(61.0)
    story.requeue(1)
    story.admit(2)
    story.admit(1)
    return ended(story, flow["a"], story.flows[1]["a"])


@broken("slot-given-up")
def a_slot_is_kept_for_nothing() -> Story:
    story, flow = told()
    story.start(flow["a"])
    story.finish(flow["a"])
    story.wait(60.0)
    story.elect()
    return story


@broken("nobody-forgotten")
def a_user_who_waits_for_nothing() -> Story:
    story = Story()
    flow = story.submit(1, "a x")
    story.cancel(flow["a"])
    story.events.pop()
    return story


@broken("no-start-while-draining")
def a_job_starts_while_the_work_is_to_run_out() -> Story:
    story, flow = told()
    story.write("scheduler.draining", actor="operator")
    story.start(flow["a"])
    story.write("scheduler.resumed", actor="operator")
    story.finish(flow["a"])
    return ended(story)


@broken("no-admission-while-draining")
def a_user_is_admitted_while_the_work_is_to_run_out() -> Story:
    story = Story()
    flow = story.submit(1, "a x")
    story.write("scheduler.draining", actor="operator")
    story.admit(1)
    story.write("scheduler.resumed", actor="operator")
    return ended(story, flow["a"])

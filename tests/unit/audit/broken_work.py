"""Stories that break one rule of terms, jobs, tiles or workflows each."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.audit.broken import alter, broken, ended, told
from tests.unit.audit.story import C, F, Story


@broken("term-of-leader")
def a_deposed_leader_writes() -> Story:
    story, flow = told()
    story.elect()
    return alter(ended(story, flow["a"]), "job.started", term=1)


@broken("term-of-leader")
def a_leader_writes_after_it_resigned() -> Story:
    story, flow = told()
    ended(story, flow["a"])
    story.events.insert(-1, replace(story.events[-1], type="leader.resigned", user=None))
    story.events[-1] = replace(story.events[-1], id=story.events[-1].id + 1)
    return story


@broken("term-of-leader")
def the_web_process_starts_a_job() -> Story:
    story, flow = told()
    return alter(ended(story, flow["a"]), "job.started", term=0)


@broken("term-of-leader")
def a_leader_submits() -> Story:
    story, flow = told()
    return alter(ended(story, flow["a"]), "job.submitted", term=1)


@broken("terms-rise")
def a_term_comes_twice() -> Story:
    story, flow = told()
    story.term -= 1
    story.elect()
    return ended(story, flow["a"])


@broken("epochs-rise")
def an_epoch_comes_twice() -> Story:
    story, flow = told("a x", "b x")
    ended(story, flow["a"])
    story.events.pop()
    story.slots[1] = story.now
    story.epoch -= 1
    return ended(story, flow["b"])


@broken("epoch-of-claim")
def an_end_of_an_older_claim() -> Story:
    story, flow = told()
    story.start(flow["a"])
    story.take_over(flow["a"])
    story.finish(flow["a"])
    return alter(ended(story), "job.finished", epoch=1)


@broken("epoch-of-claim")
def a_cancelled_waiting_job_has_an_epoch() -> Story:
    story, flow = told()
    story.cancel(flow["a"])
    return alter(ended(story), "job.finished", epoch=7)


@broken("transition")
def a_job_succeeds_twice() -> Story:
    story, flow = told("a x", "b x")
    story.start(flow["a"])
    story.finish(flow["a"])
    story.tell("job.finished", flow["a"], story.events[-1].data, term=1)
    return ended(story, flow["b"])


@broken("transition")
def a_waiting_job_succeeds() -> Story:
    story, flow = told("a x", "b x")
    story.finish(flow["a"])
    return ended(story, flow["b"])


@broken("transition")
def a_running_job_is_retried() -> Story:
    story, flow = told("a x", "b y")
    story.start(flow["a"])
    story.retry(flow["a"])
    return ended(story, flow["a"], flow["b"])


@broken("state-of-claim")
def a_waiting_job_is_taken_over() -> Story:
    story, flow = told()
    story.take_over(flow["a"])
    return ended(story, flow["a"])


@broken("same-job")
def an_attempt_is_counted_without_a_retry() -> Story:
    story, flow = told()
    return alter(ended(story, flow["a"]), "job.started", data={"attempt": 2})


@broken("same-job")
def a_job_changes_its_lane() -> Story:
    story, flow = told()
    return alter(ended(story, flow["a"]), "job.finished", data={"lane": "w9/z"})


@broken("dependencies-first")
def a_job_starts_before_what_it_needs() -> Story:
    story, flow = told("a x", "b y a")
    return ended(story, flow["b"], flow["a"])


@broken("dependencies-first")
def a_job_starts_though_what_it_needs_has_failed() -> Story:
    story, flow = told("a x", "b y a")
    story.start(flow["a"])
    story.finish(flow["a"], F)
    return ended(story, flow["b"])


@broken("not-before-retry")
def a_job_is_tried_again_too_soon() -> Story:
    story, flow = told()
    story.start(flow["a"])
    story.take_back(flow["a"], retry_in_s=10.0)
    return ended(story, flow["a"])


@broken("not-while-paused")
def a_paused_job_starts() -> Story:
    story, flow = told("a x", "b y")
    kept = story.submit(1, "a x")
    story.pause(flow)
    story.start(flow["a"])
    story.finish(flow["a"])
    story.pause(flow, paused=False)
    return ended(story, flow["b"], kept["a"])


@broken("cancelled-as-asked")
def a_job_is_cancelled_unasked() -> Story:
    story, flow = told()
    story.start(flow["a"])
    story.finish(flow["a"], C)
    return ended(story)


@broken("cancelled-as-asked")
def a_job_that_is_to_end_waits_again() -> Story:
    story, flow = told()
    story.start(flow["a"])
    story.cancel(flow["a"])
    story.take_back(flow["a"])
    return ended(story, flow["a"])


@broken("submitted-once")
def a_job_is_submitted_twice() -> Story:
    story, flow = told()
    story.tell("job.submitted", flow["a"], {"order": 9, "tiles_total": 4, "depends_on": []})
    return ended(story, flow["a"])


@broken("submitted-once")
def a_place_is_given_twice() -> Story:
    story, flow = told("a x", "b y")
    return alter(ended(story, flow["a"], flow["b"]), "job.submitted", 1, data={"order": 1})


@broken("all-tiles")
def a_job_succeeds_without_all_tiles() -> Story:
    story, flow = told()
    return alter(ended(story, flow["a"]), "job.finished", data={"tiles": 3})


@broken("all-tiles")
def a_job_succeeds_with_another_set_of_tiles() -> Story:
    story, flow = told()
    return alter(ended(story, flow["a"]), "job.finished", data={"index_sha256": "0" * 64})


@broken("all-tiles")
def a_job_succeeds_with_fewer_tiles_than_were_submitted() -> Story:
    story, flow = told()
    flow["a"].total = 3
    return ended(story, flow["a"])


@broken("tiles-within-total")
def a_failed_job_has_more_tiles_than_its_total() -> Story:
    story, flow = told()
    story.start(flow["a"])
    story.finish(flow["a"], F, tiles=5)
    return ended(story)


@broken("tiles-within-known-total")
def a_job_is_taken_back_with_more_tiles_than_its_total() -> Story:
    story, flow = told()
    story.start(flow["a"])
    story.take_back(flow["a"], tiles=5)
    flow["a"].total = 5
    story.start(flow["a"])
    story.finish(flow["a"], F)
    return ended(story)


@broken("tiles-never-fall")
def tiles_are_lost() -> Story:
    story, flow = told()
    story.start(flow["a"])
    story.take_back(flow["a"], tiles=3)
    story.start(flow["a"])
    story.take_back(flow["a"], tiles=2)
    return ended(story, flow["a"])


@broken("workflow-moves")
def a_workflow_starts_twice() -> Story:
    story, flow = told()
    story.start(flow["a"])
    story.write("workflow.started", user=1, workflow=flow.uuid, term=1, data={"status": "RUNNING"})
    story.finish(flow["a"])
    return ended(story)


@broken("workflow-moves")
def a_workflow_is_resumed_that_was_not_paused() -> Story:
    story, flow = told()
    story.pause(flow, paused=False)
    return ended(story, flow["a"])


@broken("status-of-jobs")
def a_workflow_with_a_failed_job_succeeds() -> Story:
    story, flow = told()
    story.start(flow["a"])
    story.finish(flow["a"], F)
    return alter(ended(story), "workflow.finished", data={"status": "SUCCEEDED"})


@broken("every-job-is-there")
def a_job_of_the_workflow_was_never_told_of() -> Story:
    story, flow = told()
    return alter(ended(story, flow["a"]), "workflow.submitted", data={"jobs": 2})


@broken("workflow-keeps-up")
def a_job_runs_in_a_finished_workflow() -> Story:
    story, flow = told()
    story.start(flow["a"])
    story.finish(flow["a"], F)
    story.retry(flow["a"])
    reopened = story.events.pop()
    story.start(flow["a"])
    story.events.append(replace(reopened, id=len(story.events) + 1))
    story.finish(flow["a"])
    return ended(story)


@broken("ids-rise")
def an_event_comes_twice() -> Story:
    story, flow = told()
    ended(story, flow["a"])
    story.write("log.swept", id=3)
    return story


@broken("known-words")
def an_event_of_a_type_that_nobody_knows() -> Story:
    story, flow = told()
    story.tell("job.vanished", flow["a"])
    return ended(story, flow["a"])


@broken("readable")
def an_event_lacks_its_data() -> Story:
    story, flow = told()
    story.pause(flow)
    story.pause(flow, paused=False)
    story.write("user.waiting", user=5)
    return ended(story, flow["a"])


@broken("known-workflow")
def a_workflow_comes_from_nowhere() -> Story:
    story, flow = told()
    story.write("workflow.paused", user=1, workflow="00000000-0000-0000-0000-00000000abcd")
    return ended(story, flow["a"])


@broken("known-job")
def a_job_comes_from_nowhere() -> Story:
    story, flow = told("a x", "b y")
    story.events = [replace(event, id=event.id - (event.id > 4)) for event in story.events if event.job != flow["b"].uuid]
    return ended(story, flow["b"], flow["a"])


@broken("settled")
def a_job_goes_on_after_its_workflow_succeeded() -> Story:
    story, flow = told()
    ended(story, flow["a"])
    story.tell("job.retried", flow["a"])
    return story


@broken("settled")
def a_workflow_is_deleted_twice() -> Story:
    story, flow = told()
    ended(story, flow["a"])
    for _ in range(2):
        story.write("workflow.deleted", user=1, workflow=flow.uuid)
    return story


@broken("all-finished")
def a_job_is_lost() -> Story:
    story, flow = told("a x", "b x")
    story.start(flow["a"])
    story.finish(flow["a"])
    return story


@broken("status-told")
def a_workflow_never_finishes() -> Story:
    story, flow = told()
    ended(story, flow["a"])
    story.events = [event for event in story.events if event.type != "workflow.finished"]
    return story


@broken("reason-given")
def a_job_is_taken_back_without_a_reason() -> Story:
    story, flow = told()
    story.start(flow["a"])
    story.take_back(flow["a"])
    return alter(ended(story, flow["a"]), "job.taken_back", reason="")


@broken("reason-given")
def a_job_fails_without_a_reason() -> Story:
    story, flow = told()
    story.start(flow["a"])
    story.finish(flow["a"], F)
    return alter(ended(story), "job.finished", reason="")

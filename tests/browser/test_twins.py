"""What is written live by scripts reads exactly as what the server wrote first."""

from __future__ import annotations

import json
from typing import Any

from dashboard import presenters, wording
from scheduling.states import JobState, WorkflowStatus
from tests.browser.conftest import NewPage
from tests.browser.test_journey import sign_in

CALL = """async ([module, name, inputs]) => {
  const found = await import(document.querySelector(`link[href*="js/${module}"]`).href);
  return inputs.map((input) => found[name](...(Array.isArray(input) ? input : [input])));
}"""
SECONDS = [0, 0.4, 4.9, 5, 21.9, 59.99, 60, 61, 125, 599, 600, 601, 3599, 3600, 3840, 86_399, 86_400, 183_600, -4]
REASONS = [
    "waiting for a worker",
    "behind job j0 in branch b",
    "waiting for job j3",
    "retrying in 8 s",
    "paused",
    "scheduler is not running",
    None,
]
ERRORS = [None, "cancelled by amelie", "job j0 failed"]


def test_numbers_and_times_are_written_alike(new_page: NewPage) -> None:
    page = new_page()
    sign_in(page, "twin")

    def in_browser(name: str, inputs: list[Any]) -> list[Any]:
        return list(page.evaluate(CALL, ["wording", name, inputs]))

    for name in ("duration", "ago"):
        assert in_browser(name, SECONDS) == [getattr(wording, name)(seconds) for seconds in SECONDS]
    assert in_browser("estimate", [*SECONDS[:-1], None]) == [wording.estimate(seconds) for seconds in [*SECONDS[:-1], None]]
    fractions = [n / 57 for n in range(58)]
    assert in_browser("percent", fractions) == [wording.percent(fraction) for fraction in fractions]
    assert in_browser("count", [None, 0, 999, 1000, 1_234_567]) == [wording.count(n) for n in (None, 0, 999, 1000, 1_234_567)]
    assert in_browser("rate", [0.24, 9.96, 10, 57.4, 1234]) == [wording.rate(n) for n in (0.24, 9.96, 10, 57.4, 1234)]
    pairs = [[1, "job"], [2, "job"], [0, "branch"], [1234, "branch"]]
    assert in_browser("plural", pairs) == [wording.plural(int(n), str(noun)) for n, noun in pairs]


def test_paces_are_added_up_alike(new_page: NewPage) -> None:
    page = new_page()
    sign_in(page, "twin")
    rates = [None, 0.5, 12.25]
    jobs = [
        [{"state": state.value, "tiles_per_s": first}, {"state": "RUNNING", "tiles_per_s": 2.0}] for state in JobState for first in rates
    ]
    jobs += [[{"state": "RUNNING", "tiles_per_s": None}], []]
    assert page.evaluate(CALL, ["pace", "liveRate", [[entry] for entry in jobs]]) == [presenters.live_rate(entry) for entry in jobs]
    assert page.evaluate(CALL, ["pace", "startsIn", [None, "2026-01-01T00:00:00.000000Z"]]) == ["", ", in about 5s"]


def test_states_look_alike(new_page: NewPage) -> None:
    page = new_page()
    sign_in(page, "twin")
    jobs = [
        {"state": state.value, "waiting_reason": reason, "error": error} for state in JobState for reason in REASONS for error in ERRORS
    ]
    assert page.evaluate(CALL, ["looks", "jobLook", json.loads(json.dumps(jobs))]) == [presenters.job_look(job) for job in jobs]
    flows = [{"status": status.value, "paused": paused} for status in WorkflowStatus for paused in (True, False)]
    assert page.evaluate(CALL, ["looks", "workflowLook", flows]) == [presenters.workflow_look(flow) for flow in flows]

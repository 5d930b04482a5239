"""The rule: what stands still is stuck, and what is slow is not."""

from __future__ import annotations

import pytest

from scheduling.worker.watching.stillness import BURN, UNWANTED_S, Stillness, Verdict, Vitals

LOOK_S = 0.5


class Story:
    """A bundle with a limit of 10 s, and a process that is told what to do."""

    def __init__(self) -> None:
        self.vitals = Vitals(cpu_s=100.0, waited_s=7.0, io=4096)
        self.stillness = Stillness(10.0, self.vitals)

    def goes_on(self, seconds: float, *, is_wanted: bool = True, **each_s: float) -> tuple[Verdict, float] | None:
        """Let time pass, in which it uses so much each second; the verdict, if there is one, and after how long."""
        for look in range(1, round(seconds / LOOK_S) + 1):
            used = {name: getattr(self.vitals, name) + rate * LOOK_S for name, rate in each_s.items()}
            self.vitals = Vitals(**{**vars(self.vitals), **used})
            if verdict := self.stillness.look(self.vitals, LOOK_S, is_wanted=is_wanted):
                return verdict, look * LOOK_S
        return None

    def becomes(self, **state: bool) -> None:
        """Stopped, waiting for the disk, or neither any more."""
        self.vitals = Vitals(**{**vars(self.vitals), **state})


@pytest.fixture
def story() -> Story:
    """A process in mid-bundle."""
    return Story()


def test_a_process_that_does_nothing_is_stuck_after_its_limit(story: Story) -> None:
    assert story.goes_on(60) == (Verdict.STILL, 10.5)


def test_idle_threads_that_tick_are_no_movement(story: Story) -> None:
    assert story.goes_on(60, cpu_s=0.004) == (Verdict.STILL, 10.5)


def test_a_process_that_computes_is_at_work_however_long_it_takes(story: Story) -> None:
    assert story.goes_on(250, cpu_s=1.0) is None


def test_a_starved_process_gets_next_to_no_cpu_and_waits_for_one(story: Story) -> None:
    assert story.goes_on(3600, cpu_s=0.0003, waited_s=0.98) is None


def test_a_starved_process_on_a_system_that_does_not_tell_of_waiting_lives_on_its_share(story: Story) -> None:
    assert story.goes_on(3600, cpu_s=0.015) is None


def test_a_process_that_reads_slowly_is_at_work(story: Story) -> None:
    story.becomes(is_at_disk=True)
    assert story.goes_on(3600, io=512) is None


def test_a_disk_that_does_not_answer_is_told_apart(story: Story) -> None:
    story.becomes(is_at_disk=True)
    assert story.goes_on(60) == (Verdict.DISK, 10.5)


def test_a_process_that_was_stopped_is_silent_and_not_stuck(story: Story) -> None:
    story.becomes(is_stopped=True)
    found = story.goes_on(60)
    assert found is not None and found[0] is Verdict.STOPPED


def test_a_process_that_goes_on_after_a_stop_has_its_whole_limit_again(story: Story) -> None:
    story.becomes(is_stopped=True)
    assert story.goes_on(9) is None
    story.becomes(is_stopped=False)
    assert story.goes_on(10) is None


def test_work_now_and_then_begins_the_limit_anew(story: Story) -> None:
    for _ in range(20):
        assert story.goes_on(9) is None
        assert story.goes_on(1, cpu_s=0.5) is None


def test_a_loop_without_end_is_found_by_what_it_has_computed(story: Story) -> None:
    found = story.goes_on(3600, cpu_s=2.0)
    assert found == (Verdict.BURNT, BURN * 10.0 / 2 + LOOK_S)


def test_what_nobody_wants_any_more_is_ended_soon_though_it_moves(story: Story) -> None:
    assert story.goes_on(5, cpu_s=1.0) is None
    assert story.goes_on(60, cpu_s=1.0, is_wanted=False) == (Verdict.UNWANTED, UNWANTED_S + LOOK_S)


def test_a_thread_that_ends_takes_its_waiting_along_and_that_is_no_movement(story: Story) -> None:
    story.vitals = Vitals(cpu_s=100.0, waited_s=2.0, io=4096)
    assert story.goes_on(60) == (Verdict.STILL, 10.5)
    story = Story()
    story.vitals = Vitals(cpu_s=100.0, waited_s=2.0, io=4096)
    assert story.goes_on(1) is None
    assert story.goes_on(60, waited_s=0.9) is None

"""The load: six users who submit, cancel, retry, pause and resume, each with a bounded backlog so that there is always work."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.chaos.client import Answers, Client
from tests.chaos.work import Submission, body

USERS = 6
#: Unfinished workflows of one user: enough to go on with while the web server is away.
BACKLOG = 6
PAUSE_S = (0.1, 0.5)
RESUMES = 0.3
#: What a user does whose backlog is full, by weight; mostly nothing.
DEEDS = {"nothing": 160, "cancel": 4, "cancel_job": 6, "pause": 8, "retry": 8, "retry_job": 6, "repeat": 4}
UNFINISHED = frozenset({"ACCEPTED", "RUNNING"})


class User(threading.Thread):
    """One user. `submissions` is all that was asked, also what got no answer; `problem` what ended the user before its time."""

    def __init__(self, name: str, seed: int, client: Client) -> None:
        super().__init__(name=name, daemon=True)
        self.submissions: list[Submission] = []
        self.problem = ""
        self.contradictions: list[str] = []
        self._client, self._rng = client, random.Random(f"load of {seed} {name}")
        self._ended = threading.Event()
        self._deeds: dict[str, Callable[[Submission], None]] = {
            "cancel": self._cancel,
            "cancel_job": self._cancel_job,
            "pause": self._pause,
            "retry": self._retry,
            "retry_job": self._retry_job,
            "repeat": self._submit,
        }

    def run(self) -> None:
        """Until `end`. What is wrong beyond doubt ends the user and the run."""
        try:
            while not self._ended.wait(self._rng.uniform(*PAUSE_S)):
                self._act(self._statuses())
        except (AssertionError, TimeoutError) as error:
            self.problem = f"{self.name}: {error}"

    def end(self) -> None:
        """Ask for the end."""
        self._ended.set()

    def finish(self) -> None:
        """After the faults: what got no answer is submitted again, what is paused goes on. Raises TimeoutError, AssertionError."""
        for submission in self.submissions:
            if submission.workflow is None:
                self._submit(submission)
            answer = self._client.until_answered("resume", "POST", f"/workflow/{submission.workflow}/resume")
            assert answer.status_code in {202, 409}, answer.text
        self._client.close()

    def _statuses(self) -> dict[str, str]:
        """The newest workflows; older ones that are unfinished are not missed, since there are few of them."""
        answer = self._client.once("list", "GET", "/workflow")
        if answer is None:
            return {}
        assert answer.status_code == 200, answer.text
        return {flow["workflow_id"]: flow["status"] for flow in answer.json()["results"]}

    def _act(self, statuses: dict[str, str]) -> None:
        if not statuses and self.submissions:
            return
        unanswered = [submission for submission in self.submissions if submission.workflow is None]
        if unanswered:
            self._submit(unanswered[0])
        elif sum(status in UNFINISHED for status in statuses.values()) < BACKLOG:
            self._submit_new()
        else:
            self._change(statuses)

    def _submit_new(self) -> None:
        number = len(self.submissions)
        submission = Submission(user=self.name, key=f"{self.name}-{number}", body=body(self._rng, f"{self.name} #{number}"))
        self.submissions.append(submission)
        self._submit(submission)

    def _change(self, statuses: dict[str, str]) -> None:
        shown = [s for s in self.submissions if s.workflow in statuses]
        paused = [s for s in shown if s.is_paused]
        if paused and self._rng.random() < RESUMES:
            self._resume(self._rng.choice(paused))
            return
        deed = self._rng.choices(list(DEEDS), list(DEEDS.values()))[0]
        retries = deed in {"retry", "retry_job"}
        fitting = [s for s in shown if deed == "repeat" or (statuses[str(s.workflow)] not in UNFINISHED) == retries]
        if deed in self._deeds and fitting:
            self._deeds[deed](self._rng.choice(fitting))

    def _submit(self, submission: Submission) -> None:
        """Also a second time: the same key and body must give the same workflow."""
        call = "submit again" if submission.workflow else "submit"
        answer = self._client.once(call, "POST", "/workflow", json=submission.body, headers={"Idempotency-Key": submission.key})
        if answer is None:
            return
        assert answer.status_code == 201, answer.text
        told = str(answer.json()["workflow_id"])
        if submission.workflow not in {None, told}:
            self.contradictions.append(f"{submission.key} was answered with {submission.workflow}, then with {told}")
        submission.workflow = told

    def _ask(self, submission: Submission, call: str, what: str) -> bool:
        """Whether it was taken on for certain."""
        answer = self._client.once(call, "POST", f"/workflow/{submission.workflow}/{what}")
        assert answer is None or answer.status_code in {202, 409}, answer.text
        return answer is not None and answer.status_code == 202

    def _cancel(self, submission: Submission) -> None:
        submission.is_cancelled = True
        self._ask(submission, "cancel", "cancel")

    def _cancel_job(self, submission: Submission) -> None:
        job = self._job(submission)
        submission.cancelled_jobs.add(job)
        self._ask(submission, "cancel job", f"job/{job}/cancel")

    def _pause(self, submission: Submission) -> None:
        submission.is_paused = True
        self._ask(submission, "pause", "pause")

    def _resume(self, submission: Submission) -> None:
        if self._ask(submission, "resume", "resume"):
            submission.is_paused = False

    def _retry(self, submission: Submission) -> None:
        submission.retries += 1
        submission.confirmed_retries += self._ask(submission, "retry", "retry")

    def _retry_job(self, submission: Submission) -> None:
        job = self._job(submission)
        submission.job_retries[job] += 1
        submission.confirmed_retries += self._ask(submission, "retry job", f"job/{job}/retry")

    def _job(self, submission: Submission) -> str:
        return str(self._rng.choice(submission.jobs)["job_id"])


class Load:
    """All users."""

    def __init__(self, port: int, seed: int) -> None:
        self.answers = Answers()
        names = [f"u{number}" for number in range(USERS)]
        self.users = [User(name, seed, Client(port, name, self.answers)) for name in names]

    def start(self) -> Load:
        """Begin."""
        for user in self.users:
            user.start()
        return self

    def stop(self) -> None:
        """No more; waits for what is being asked."""
        for user in self.users:
            user.end()
        deadline = time.monotonic() + 60
        for user in self.users:
            if user.is_alive():
                user.join(timeout=max(0.0, deadline - time.monotonic()))

    def finish(self) -> None:
        """As User.finish, for all. Raises TimeoutError, AssertionError."""
        for user in self.users:
            user.finish()

    @property
    def submissions(self) -> list[Submission]:
        """Of all users."""
        return [submission for user in self.users for submission in user.submissions]

    @property
    def problems(self) -> list[str]:
        """What should never have been answered."""
        ended = [user.problem for user in self.users if user.problem]
        return [*ended, *(said for user in self.users for said in user.contradictions), *self.answers.wrong]


def summary(submissions: list[Submission]) -> dict[str, Any]:
    """How much was asked for."""
    return {
        "workflows": len(submissions),
        "jobs": sum(len(submission.jobs) for submission in submissions),
        "tiles": sum(job["parameters"]["tiles"] for submission in submissions for job in submission.jobs),
    }

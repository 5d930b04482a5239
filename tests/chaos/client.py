"""HTTP as the load's users speak it: an answer that does not come is no answer, and every status is counted."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import httpx

#: A web server that is stopped or being started again gives no answer for so long.
TIMEOUT_S = 20.0
AGAIN_AFTER_S = 0.3
ANSWER_WITHIN_S = 120.0


class Answers:
    """How often which call was answered how, by all users together. `wrong` are answers that no client should ever get."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._lock = threading.Lock()

    def note(self, call: str, answer: httpx.Response | None) -> None:
        """Count an answer; None when there was none."""
        status = answer.status_code if answer is not None else 0
        with self._lock:
            self.counts[f"{call} {status or 'no answer'}"] += 1
            if answer is not None and (status >= 500 and status != httpx.codes.SERVICE_UNAVAILABLE):
                self.wrong.append(f"{call}: {status} {answer.text[:200]}")


class Client:
    """One user's connection."""

    def __init__(self, port: int, user: str, answers: Answers) -> None:
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-User-ID": user}, timeout=TIMEOUT_S)
        self._answers = answers

    def close(self) -> None:
        """Hang up."""
        self._http.close()

    def once(self, call: str, method: str, path: str, **request: Any) -> httpx.Response | None:
        """One try; None for no answer, for 503 and for what the server failed at: what was asked may have happened or not."""
        try:
            answer = self._http.request(method, path, **request)
        except httpx.HTTPError:
            answer = None
        self._answers.note(call, answer)
        return answer if answer is not None and answer.status_code < 500 else None

    def until_answered(self, call: str, method: str, path: str, **request: Any) -> httpx.Response:
        """Ask until there is an answer: for what may be asked twice. Raises TimeoutError."""
        deadline = time.monotonic() + ANSWER_WITHIN_S
        while (answer := self.once(call, method, path, **request)) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{call} got no answer within {ANSWER_WITHIN_S:g} s")
            time.sleep(AGAIN_AFTER_S)
        return answer

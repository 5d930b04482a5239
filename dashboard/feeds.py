"""The topics of the socket: what each reads, which groups tell of it, and how soon news makes it read again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dashboard.lists import list_body
from dashboard.live import Body, Pace, Picture, Reader
from scheduling.live.updates import QUEUE_GROUP, JobProgress, user_group
from scheduling.models import User
from scheduling.selectors.queue import queue_body
from scheduling.selectors.workflows import job_find, workflow_body, workflow_get

#: Read again without any news: a lost message must not cost more than this.
SAFETY_S = 5.0
#: Least seconds between two reads: after news of the topic itself, and after news that may concern it.
SOON_S, LATER_S = 0.2, 1.0


class UnknownTopic(Exception):
    """No topic of that form."""


@dataclass(frozen=True, kw_only=True)
class Topic:
    """What a subscription means for one user."""

    name: str
    groups: tuple[str, ...]
    read: Reader
    #: The workflow that it shows; None for lists.
    workflow: str | None = None


def open_topic(name: str, user: User, meta: Mapping[str, str]) -> Topic:
    """Raises UnknownTopic for a malformed name, NotFound for what is not there or not this user's. Reads the database."""
    kind, _, key = name.partition(":")
    own = (user_group(user.pk), QUEUE_GROUP)
    if kind == "workflow" and key:
        return _workflow_topic(name, user, key)
    if kind == "job" and key:
        return _job_topic(name, user, key)
    if name == "user":
        return Topic(name=name, groups=own, read=lambda: list_body(user, meta))
    if name == "queue":
        return Topic(name=name, groups=own, read=lambda: queue_body(user))
    raise UnknownTopic(name)


def _workflow_topic(name: str, user: User, key: str) -> Topic:
    workflow = workflow_get(user=user, workflow_uuid=key)

    def read() -> Body:
        return workflow_body(workflow_get(user=user, workflow_uuid=workflow.uuid))

    return Topic(name=name, groups=(user_group(workflow.owner_id), QUEUE_GROUP), read=read, workflow=str(workflow.uuid))


def _job_topic(name: str, user: User, key: str) -> Topic:
    job = job_find(user=user, job_uuid=key)

    def read() -> Body:
        body = workflow_body(workflow_get(user=user, workflow_uuid=job.workflow.uuid))
        found: dict[str, Any] = next(entry for entry in body["jobs"] if entry["id"] == str(job.uuid))
        return found

    return Topic(name=name, groups=(user_group(job.owner_id), QUEUE_GROUP), read=read, workflow=str(job.workflow.uuid))


@dataclass
class Feed:
    """A subscription: its topic, what was shown of it, when it is read next."""

    topic: Topic
    picture: Picture
    pace: Pace

    @classmethod
    def started(cls, topic: Topic, body: Body, now_s: float) -> Feed:
        """A new subscription whose body was read just now."""
        return cls(topic=topic, picture=Picture(body), pace=Pace.started(now_s, SAFETY_S))

    def workflow_changed(self, workflow: str, now_s: float) -> None:
        """A job or workflow of a user changed state."""
        if self.topic.workflow in (None, workflow):
            self.pace.news(now_s, SOON_S)

    def queue_changed(self, now_s: float) -> None:
        """Slots, waiting users or workers changed: it shows in the queue and in waiting reasons."""
        self.pace.news(now_s, SOON_S if self.topic.name == "queue" else LATER_S)

    def progress_made(self, workflow: str, jobs: list[JobProgress], now_s: float) -> None:
        """Tiles were finished. Only a workflow's own page takes the numbers as they are; sums are read again."""
        if self.topic.name == f"workflow:{workflow}":
            self.picture.take_progress(jobs)
        elif self.topic.workflow == workflow:
            self.pace.news(now_s, SOON_S)
        elif self.topic.name == "user":
            self.pace.news(now_s, LATER_S)


def is_topic_name(value: object) -> bool:
    """Whether a client's topic is text of a sensible length."""
    return isinstance(value, str) and 0 < len(value) <= 100

"""The overview's list: filter tabs, search, keyset paging, and the first page of GET /workflow for the socket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.db.models import Count, QuerySet
from django.http import HttpRequest
from rest_framework.request import Request

from scheduling.api.pagination import NewestFirst
from scheduling.models import User, Workflow
from scheduling.selectors.workflows import workflow_query, workflow_rows
from scheduling.states import WorkflowStatus

PAGE_ROWS = 25
MAX_KEY = 2**63 - 1
#: Tab -> the statuses behind it; "" shows all.
TABS: dict[str, tuple[str, tuple[WorkflowStatus, ...]]] = {
    "": ("All", tuple(WorkflowStatus)),
    "running": ("Running", (WorkflowStatus.RUNNING,)),
    "queued": ("Queued", (WorkflowStatus.ACCEPTED,)),
    "failed": ("Failed", (WorkflowStatus.FAILED,)),
    "finished": ("Finished", (WorkflowStatus.SUCCEEDED, WorkflowStatus.CANCELLED)),
}


def list_body(user: User, meta: Mapping[str, str]) -> dict[str, Any]:
    """The body of GET /workflow for a client whose request headers are `meta` (as in HttpRequest.META)."""
    request = HttpRequest()
    request.method, request.path, request.META = "GET", "/workflow", dict(meta)
    paginator = NewestFirst()
    page = paginator.paginate_queryset(workflow_query(user=user), Request(request)) or []
    body: dict[str, Any] = paginator.get_paginated_response(workflow_rows(page)).data
    return dict(body)


@dataclass(frozen=True, kw_only=True)
class Filter:
    """What of the list is shown, as in the URL's query."""

    state: str = ""
    search: str = ""
    before: int | None = None
    after: int | None = None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Filter:
        """From a request's query; what makes no sense is left out."""
        state = query.get("state", "")
        return cls(
            state=state if state in TABS else "",
            search=query.get("q", "").replace("\0", "").strip()[:200],
            before=_key(query.get("before", "")),
            after=_key(query.get("after", "")),
        )

    @property
    def is_plain(self) -> bool:
        """Whether this is the first page of everything: then new workflows may appear in it."""
        return self == Filter()

    def url(self, **changes: Any) -> str:
        """The address of this list with other values; paging starts anew."""
        values = {"state": self.state, "q": self.search, **changes}
        query = urlencode({key: value for key, value in values.items() if value})
        return f"/ui?{query}" if query else "/ui"


def _key(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= MAX_KEY else None


@dataclass(frozen=True, kw_only=True)
class Tab:
    """One tab of the list."""

    name: str
    label: str
    count: int
    url: str


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of the list."""

    bodies: Sequence[dict[str, Any]]
    tabs: Sequence[Tab]
    newer: str | None
    older: str | None


def page_of(user: User, chosen: Filter) -> Page:
    """The workflows that the filter lets through, newest first, and the tabs with their counts."""
    found = workflow_query(user=user, search=chosen.search or None)
    statuses = TABS[chosen.state][1]
    shown = found.filter(status__in=statuses) if chosen.state else found
    workflows, newer, older = _slice(shown, chosen)
    return Page(
        bodies=workflow_rows(workflows),
        tabs=_tabs(found, chosen),
        newer=chosen.url(after=workflows[0].pk) if newer and workflows else None,
        older=chosen.url(before=workflows[-1].pk) if older and workflows else None,
    )


def _slice(found: QuerySet[Workflow], chosen: Filter) -> tuple[list[Workflow], bool, bool]:
    """(rows, whether there are newer ones, whether there are older ones)."""
    if chosen.after is not None:
        rows = list(found.filter(pk__gt=chosen.after).order_by("id")[: PAGE_ROWS + 1])
        return rows[:PAGE_ROWS][::-1], len(rows) > PAGE_ROWS, True
    rows = list((found.filter(pk__lt=chosen.before) if chosen.before is not None else found)[: PAGE_ROWS + 1])
    return rows[:PAGE_ROWS], chosen.before is not None, len(rows) > PAGE_ROWS


def _tabs(found: QuerySet[Workflow], chosen: Filter) -> list[Tab]:
    rows = Workflow.objects.filter(pk__in=found.order_by().values("pk")).values_list("status").annotate(n=Count("id")).order_by()
    counts: dict[str, int] = dict(rows)
    return [
        Tab(name=name, label=label, count=sum(counts.get(status, 0) for status in statuses), url=chosen.url(state=name))
        for name, (label, statuses) in TABS.items()
    ]


def running_count(user: User) -> int:
    """Workflows of this user that run now, for the navigation."""
    return Workflow.objects.filter(owner=user, status=WorkflowStatus.RUNNING).count()

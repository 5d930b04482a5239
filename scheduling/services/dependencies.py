"""Which jobs of a new workflow need which: names that exist, once each, and no circle. Pure; no Django, no database.

A job of a branch needs the one before it in that branch as well, so the order within branches counts as an edge.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scheduling.errors import Invalid


@dataclass(frozen=True, kw_only=True, slots=True)
class Needing:
    """A job, and the ids of the jobs that must have SUCCEEDED before it starts. Given in order of submission."""

    job_id: str
    branch: str
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """Job `job` cannot start before job `needs` has ended, by index; either it says so, or they are of one branch."""

    job: int
    needs: int
    by_branch: bool


def check_dependencies(jobs: Sequence[Needing]) -> None:
    """Raise Invalid, naming the field, for a name that is not there, given twice or the job's own, and for a circle.

    The job_ids are unique. Linear in the number of jobs and names.
    """
    places = {job.job_id: i for i, job in enumerate(jobs)}
    for i, job in enumerate(jobs):
        _check_names(job, places, f"jobs[{i}].depends_on")
    if circle := find_circle(jobs):
        raise Invalid(f"The jobs wait for each other: {_spelled(circle, jobs)}.", field=f"jobs[{circle[0].job}].depends_on")


def _check_names(job: Needing, places: dict[str, int], field: str) -> None:
    seen: set[str] = set()
    for name in job.depends_on:
        if name == job.job_id:
            raise Invalid("A job cannot depend on itself.", field=field)
        if name not in places:
            raise Invalid(f"There is no job {name!r} in this workflow.", field=field)
        if name in seen:
            raise Invalid(f"Job {name!r} is named twice.", field=field)
        seen.add(name)


def find_circle(jobs: Sequence[Needing]) -> list[Link]:
    """A circle of jobs that wait for each other, each link's `needs` being the next link's `job`; [] when there is none.

    It begins with a link of `depends_on` and is the shortest through its first job. Every name exists.
    """
    links = _links(jobs)
    stuck = _stuck(links)
    if not stuck:
        return []
    # Every stuck job needs a stuck one, so that a walk along these needs comes back to where it was.
    here, passed = min(stuck), set()
    while here not in passed:
        passed.add(here)
        here = next(link.needs for link in links[here] if link.needs in stuck)
    circle = _way_back(here, links, stuck)
    # The order within branches alone has no circle.
    first = next(i for i, link in enumerate(circle) if not link.by_branch)
    return circle[first:] + circle[:first]


def _links(jobs: Sequence[Needing]) -> list[list[Link]]:
    """What each job waits for: the jobs it names, then the one before it in its branch."""
    places = {job.job_id: i for i, job in enumerate(jobs)}
    last: dict[str, int] = {}
    links: list[list[Link]] = []
    for i, job in enumerate(jobs):
        links.append([Link(job=i, needs=places[name], by_branch=False) for name in job.depends_on])
        if job.branch in last:
            links[i].append(Link(job=i, needs=last[job.branch], by_branch=True))
        last[job.branch] = i
    return links


def _stuck(links: Sequence[Sequence[Link]]) -> set[int]:
    """Jobs that could never start: what is left when all that can start have ended, again and again (Kahn's algorithm)."""
    open_needs = [len(needs) for needs in links]
    dependents: list[list[int]] = [[] for _ in links]
    for needs in links:
        for link in needs:
            dependents[link.needs].append(link.job)
    ready = [job for job, count in enumerate(open_needs) if count == 0]
    stuck = set(range(len(links)))
    while ready:
        job = ready.pop()
        stuck.discard(job)
        for dependent in dependents[job]:
            open_needs[dependent] -= 1
            if open_needs[dependent] == 0:
                ready.append(dependent)
    return stuck


def _way_back(start: int, links: Sequence[Sequence[Link]], stuck: set[int]) -> list[Link]:
    """The shortest circle through a job that lies on one (breadth first)."""
    reached_by: dict[int, Link] = {}
    queue = deque([start])
    while start not in reached_by:
        for link in links[queue.popleft()]:
            if link.needs in stuck and link.needs not in reached_by:
                reached_by[link.needs] = link
                queue.append(link.needs)
    circle = [reached_by[start]]
    while circle[-1].job != start:
        circle.append(reached_by[circle[-1].job])
    return circle[::-1]


def _spelled(circle: Sequence[Link], jobs: Sequence[Needing]) -> str:
    """`j3 needs j1, j1 comes after j3 in branch b1`; steps along one branch are told as one."""
    return ", ".join(
        f"{jobs[link.job].job_id} comes after {jobs[link.needs].job_id} in branch {jobs[link.job].branch}"
        if link.by_branch
        else f"{jobs[link.job].job_id} needs {jobs[link.needs].job_id}"
        for link in _merged(circle)
    )


def _merged(circle: Sequence[Link]) -> Iterator[Link]:
    """The circle with each run of steps within a branch as one link; it begins with a link of `depends_on`."""
    run: list[Link] = []
    for link in circle:
        if link.by_branch:
            run.append(link)
            continue
        if run:
            yield Link(job=run[0].job, needs=run[-1].needs, by_branch=True)
            run = []
        yield link
    if run:
        yield Link(job=run[0].job, needs=run[-1].needs, by_branch=True)

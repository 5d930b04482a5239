"""Dependencies of a new workflow: what is refused, and how a circle is spelled out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.errors import Invalid
from scheduling.services.dependencies import Link, Needing, check_dependencies, find_circle


def jobs(*lines: str) -> list[Needing]:
    """ "<job_id> <branch> <needed job_id> …" each."""
    words = [line.split() for line in lines]
    return [Needing(job_id=job_id, branch=branch, depends_on=tuple(needs)) for job_id, branch, *needs in words]


def refusal(*lines: str) -> tuple[str | None, str]:
    """Field and message."""
    with pytest.raises(Invalid) as refused:
        check_dependencies(jobs(*lines))
    return refused.value.field, refused.value.message


@pytest.mark.parametrize(
    "lines",
    [
        ["j1 b1"],
        ["j1 b1", "j2 b1 j1"],
        ["j1 b1 k1", "k1 b2"],
        ["j1 b1", "j2 b1 k1", "k1 b2 j1", "k2 b2 j2"],
        ["a 1", "b 2 a", "c 3 a", "d 4 b c"],
    ],
    ids=["none", "the one before it", "a later one of another branch", "to and fro between branches", "a diamond"],
)
def test_dependencies_that_can_be_met_are_accepted(lines: list[str]) -> None:
    check_dependencies(jobs(*lines))


@pytest.mark.parametrize(
    ("lines", "field", "message"),
    [
        (["a 1", "b 2", "c 3 a x"], "jobs[2].depends_on", "There is no job 'x' in this workflow."),
        (["a 1 a"], "jobs[0].depends_on", "A job cannot depend on itself."),
        (["a 1", "b 2 a a"], "jobs[1].depends_on", "Job 'a' is named twice."),
        (["a 1 b", "b 2 a"], "jobs[0].depends_on", "The jobs wait for each other: a needs b, b needs a."),
        (
            ["j3 b1 j1", "j1 b1"],
            "jobs[0].depends_on",
            "The jobs wait for each other: j3 needs j1, j1 comes after j3 in branch b1.",
        ),
        (
            ["a 1 d", "b 1", "c 1", "d 2 c"],
            "jobs[0].depends_on",
            "The jobs wait for each other: a needs d, d needs c, c comes after a in branch 1.",
        ),
        (
            ["a 1", "x 9 y", "y 9", "b 2 a"],
            "jobs[1].depends_on",
            "The jobs wait for each other: x needs y, y comes after x in branch 9.",
        ),
    ],
)
def test_what_can_never_be_met_is_refused_by_name(lines: list[str], field: str, message: str) -> None:
    assert refusal(*lines) == (field, message)


@st.composite
def workflows(draw: st.DrawFn) -> list[Needing]:
    """Up to 8 jobs in up to 3 branches, each naming some of the others."""
    names = [f"j{n}" for n in range(draw(st.integers(1, 8)))]
    return [
        Needing(
            job_id=name,
            branch=draw(st.sampled_from("abc")),
            depends_on=tuple(draw(st.lists(st.sampled_from([other for other in names if other != name] or [""]), unique=True, max_size=2)))
            if len(names) > 1
            else (),
        )
        for name in names
    ]


def direct_needs(flow: list[Needing]) -> set[tuple[str, str]]:
    """(job, needed job): by name, and all earlier ones of its branch."""
    named = {(job.job_id, need) for job in flow for need in job.depends_on}
    return named | {(job.job_id, earlier.job_id) for i, job in enumerate(flow) for earlier in flow[:i] if earlier.branch == job.branch}


def waits_for_itself(flow: list[Needing]) -> bool:
    """The slow way: the transitive closure, step by step until nothing is added."""
    needs = direct_needs(flow)
    while added := {(a, d) for a, b in needs for c, d in needs if b == c} - needs:
        needs |= added
    return any(a == b for a, b in needs)


@given(workflows())
def test_a_circle_is_found_exactly_where_a_job_waits_for_itself(flow: list[Needing]) -> None:
    assert bool(find_circle(flow)) == waits_for_itself(flow)


@given(workflows())
def test_a_circle_found_is_one_closed_with_true_links_and_no_job_twice(flow: list[Needing]) -> None:
    circle = find_circle(flow)
    for link, following in zip(circle, circle[1:] + circle[:1], strict=True):
        assert link.needs == following.job
        assert is_true(link, flow)
    assert len({link.job for link in circle}) == len(circle)
    assert not circle or not circle[0].by_branch


def is_true(link: Link, flow: list[Needing]) -> bool:
    """Whether the workflow says so."""
    job, needed = flow[link.job], flow[link.needs]
    return (job.branch == needed.branch and link.needs < link.job) if link.by_branch else needed.job_id in job.depends_on


@settings(max_examples=250)
@given(workflows())
def test_the_refusal_of_a_circle_says_nothing_that_is_not_so(flow: list[Needing]) -> None:
    try:
        check_dependencies(flow)
    except Invalid as refused:
        told = refused.message.removeprefix("The jobs wait for each other: ").removesuffix(".").split(", ")
        said = {(words[0], words[2] if words[1] == "needs" else words[3]) for words in (line.split() for line in told)}
        assert said <= direct_needs(flow)
        assert {job for job, _ in said} == {need for _, need in said}


def test_a_thousand_jobs_that_each_need_all_before_them_are_looked_through() -> None:
    names = [f"j{n}" for n in range(1000)]
    flow = [Needing(job_id=name, branch=f"b{n}", depends_on=tuple(names[:n])) for n, name in enumerate(names)]
    check_dependencies(flow)
    closed = [Needing(job_id="j0", branch="b0", depends_on=("j999",)), *flow[1:]]
    assert [(link.job, link.needs) for link in find_circle(closed)] == [(0, 999), (999, 0)]

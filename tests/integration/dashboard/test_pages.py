"""Pages: who sees them, what they show, and that they keep to the content security policy."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from scheduling.models import Job, Slide, User, Workflow
from tests.integration.dashboard.conftest import Submit

pytestmark = pytest.mark.django_db


def test_the_bare_address_leads_to_the_overview_and_that_to_the_sign_in_page(client: Client) -> None:
    assert client.get("/")["Location"] == "/ui"
    assert client.get("/ui?state=failed")["Location"] == "/ui/login?next=%2Fui%3Fstate%3Dfailed"
    assert client.get("/favicon.ico").status_code == 302


def test_an_empty_overview_leads_to_the_panel(page: Client) -> None:
    html = page.get("/ui").content.decode()
    assert "No workflows yet" in html
    assert 'href="#create"' in html
    assert "You have no work" in html


def test_the_overview_lists_own_workflows_newest_first(page: Client, amelie: User, bjorn: User, submit: Submit) -> None:
    submit(amelie, name="first one")
    submit(bjorn, name="of somebody else")
    submit(amelie, ("a", "x"), ("b", "y"), name="newer <b>")
    html = page.get("/ui").content.decode()
    assert html.index("newer &lt;b&gt;") < html.index("first one")
    assert "2 jobs in 2 branches" in html
    assert "of somebody else" not in html


def test_the_header_and_a_token_open_pages_as_they_open_the_api(client: Client, amelie: User, submit: Submit) -> None:
    workflow = submit(amelie)
    assert client.get(f"/ui/workflow/{workflow.uuid}", headers={"X-User-ID": "amelie"}).status_code == 200
    assert client.get("/ui", headers={"X-User-ID": "a b"}).status_code == 400
    User.objects.create_user("boss", password="secret", is_staff=True)
    assert client.get("/ui", headers={"X-User-ID": "boss"}).status_code == 403


@pytest.mark.parametrize("state", ["", "running", "queued", "failed", "finished", "nonsense"])
def test_tabs_filter_by_state(page: Client, amelie: User, submit: Submit, state: str) -> None:
    for status in ("ACCEPTED", "RUNNING", "FAILED", "SUCCEEDED", "CANCELLED"):
        Workflow.objects.filter(pk=submit(amelie, name=f"is {status}").pk).update(status=status)
    html = page.get("/ui", {"state": state}).content.decode()
    shown = set(re.findall(r'data-f="title">is ([A-Z]+)<', html))
    groups = {"running": {"RUNNING"}, "queued": {"ACCEPTED"}, "failed": {"FAILED"}, "finished": {"SUCCEEDED", "CANCELLED"}}
    assert shown == groups.get(state, {"ACCEPTED", "RUNNING", "FAILED", "SUCCEEDED", "CANCELLED"})
    assert re.findall(r'class="counter">(\d+)<', html) == ["5", "1", "1", "1", "2"]


def test_search_without_a_match_says_so(page: Client, amelie: User, submit: Submit) -> None:
    submit(amelie, name="kidney")
    assert "kidney" in page.get("/ui", {"q": "kid"}).content.decode()
    assert "Nothing matches" in page.get("/ui", {"q": "lung"}).content.decode()


def test_older_and_newer_pages_hold_every_workflow_once(
    page: Client, amelie: User, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.lists.PAGE_ROWS", 2)
    names = [submit(amelie, name=f"w{n}").name for n in range(5)][::-1]
    url, seen = "/ui", []
    for expected in (2, 2, 1):
        html = page.get(url).content.decode()
        titles = re.findall(r'data-f="title">(w\d)<', html)
        assert len(titles) == expected
        seen += titles
        older = re.search(r'<a href="([^"]+)" rel="next">', html)
        url = older[1].replace("&amp;", "&") if older else ""
    assert (seen, url) == (names, "")
    newer = re.search(r'<a href="([^"]+)" rel="prev">', html)
    assert newer is not None
    assert re.findall(r'data-f="title">(w\d)<', page.get(newer[1].replace("&amp;", "&")).content.decode()) == names[2:4]


@pytest.mark.parametrize("query", ["before=x", "after=-1", "before=99999999999999999999", "q=%00", "state=%27"])
def test_a_query_that_makes_no_sense_is_left_out(page: Client, query: str) -> None:
    assert page.get(f"/ui?{query}").status_code == 200


def test_the_workflow_page_shows_lanes_states_and_reasons(page: Client, amelie: User, submit: Submit) -> None:
    workflow = submit(amelie, ("j1", "left"), ("j2", "left"), ("k1", "right"), name="Batch 14")
    Job.objects.filter(workflow=workflow, job_id="k1").update(state="FAILED", error="Tile 3 <could> not be read", tiles_processed=3)
    html = page.get(f"/ui/workflow/{workflow.uuid}").content.decode()
    assert re.findall(r'data-lane="(\w+)"', html) == ["left", "right"]
    assert "Tile 3 &lt;could&gt; not be read" in html
    assert html.count(">simulated<") == 3
    assert 'aria-valuenow="15"' in html
    assert "Workflow created by amelie with 3 jobs in 2 branches" in html


def test_a_job_on_a_slide_shows_its_thumbnail_and_is_not_marked_simulated(page: Client, amelie: User, submit: Submit) -> None:
    slide = Slide.objects.create(
        owner=amelie, name="CMU-1.svs", path="slides/x", size_bytes=1, fingerprint="f", width=10, height=10, mpp=0.5, format="tiff"
    )
    workflow = submit(amelie)
    Job.objects.filter(workflow=workflow).update(slide=slide)
    html = page.get(f"/ui/workflow/{workflow.uuid}").content.decode()
    assert f'src="/slide/{slide.pk}/thumbnail"' in html
    assert ">simulated<" not in html


def test_a_succeeded_job_offers_its_files(page: Client, amelie: User, submit: Submit) -> None:
    workflow = submit(amelie)
    Job.objects.filter(workflow=workflow).update(state="SUCCEEDED", artifacts=[{"name": "cells.csv", "size": 14200, "sha256": ""}])
    for path in (f"/ui/workflow/{workflow.uuid}", f"/ui/workflow/{workflow.uuid}/job/j1/results"):
        html = page.get(path).content.decode()
        assert f'href="/workflow/{workflow.uuid}/job/j1/results/cells.csv"' in html
        assert "14.2 kB" in html


def test_a_job_address_leads_to_its_card(page: Client, amelie: User, submit: Submit) -> None:
    workflow = submit(amelie)
    job = Job.objects.get(workflow=workflow)
    assert page.get(f"/ui/job/{job.uuid}")["Location"] == f"/ui/workflow/{workflow.uuid}#job-j1"


def test_the_activity_carries_the_count_of_running_workflows(page: Client, amelie: User, submit: Submit) -> None:
    workflow = submit(amelie)
    Workflow.objects.update(status="RUNNING")
    answer = page.get(f"/ui/workflow/{workflow.uuid}/activity")
    assert answer["X-Running-Workflows"] == "1"
    assert answer.content.decode().count("<li>") == 1


@pytest.mark.parametrize("path", ["", "/activity", "/job/j1/results"])
def test_the_page_of_another_user_does_not_exist(page: Client, bjorn: User, submit: Submit, path: str) -> None:
    workflow = submit(bjorn)
    for key in (workflow.uuid, "00000000-0000-0000-0000-000000000000", "x"):
        answer = page.get(f"/ui/workflow/{key}{path}")
        assert answer.status_code == 404
        assert "There is nothing at this address" in answer.content.decode()
    job = Job.objects.get(workflow=workflow)
    assert page.get(f"/ui/job/{job.uuid}").status_code == 404


def test_staff_see_whose_workflow_it_is(client: Client, amelie: User, submit: Submit) -> None:
    User.objects.create_user("boss", password="secret", is_staff=True)
    assert client.login(username="boss", password="secret")
    submit(amelie)
    assert "by amelie" in client.get("/ui").content.decode()


@pytest.mark.parametrize("path", ["/ui/login", "/ui", "/nowhere"])
def test_pages_carry_a_strict_content_security_policy(page: Client, path: str) -> None:
    policy = page.get(path, follow=True)["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(("chosen", "shown"), [("light", "light"), ("auto", "auto"), ("dark", "dark"), ("pink", "dark")])
def test_colours_are_dark_unless_chosen_otherwise(client: Client, chosen: str, shown: str) -> None:
    assert 'data-color-mode="dark"' in client.get("/ui/login").content.decode()
    assert client.post("/ui/color-mode", {"mode": chosen, "back": "/ui/login"})["Location"] == "/ui/login"
    assert f'data-color-mode="{shown}"' in client.get("/ui/login").content.decode()


def test_the_colour_switch_leads_to_no_other_host(client: Client) -> None:
    assert client.post("/ui/color-mode", {"mode": "dark", "back": "//evil.example/"})["Location"] == "/ui"

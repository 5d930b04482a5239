"""Forms that change something: create, cancel, retry, delete, upload; with and without scripts."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from scheduling.models import Dependency, Job, Slide, User, Workflow
from tests.integration.dashboard.conftest import Submit

pytestmark = pytest.mark.django_db


def panel(**changes: Any) -> dict[str, Any]:
    """What the browser sends for a panel of two jobs."""
    plain = {"key": "k1", "name": "Batch 14", "slide": "", "on_failure": "continue", "branch_scope": "workflow"}
    rows = {"job_id": ["j1", "j2"], "branch": ["b1", "b2"], "job_type": ["TISSUE_MASK", "SEGMENT_CELLS"]}
    return {**plain, **rows, **changes}


def test_the_panel_creates_a_workflow_and_leads_to_its_page(page: Client, amelie: User) -> None:
    answer = page.post("/ui/workflow", panel(on_failure="stop", branch_scope="user"))
    workflow = Workflow.objects.get()
    assert answer["Location"] == f"/ui/workflow/{workflow.uuid}"
    assert (workflow.owner, workflow.name, workflow.on_failure, workflow.branch_scope) == (amelie, "Batch 14", "stop", "user")
    assert list(workflow.jobs.values_list("job_id", "branch", "job_type")) == [("j1", "b1", "TISSUE_MASK"), ("j2", "b2", "SEGMENT_CELLS")]


@pytest.mark.parametrize("typed", ["j1", " j1, ", "j1,j3", "j1 j3", "j3;j1"])
def test_a_job_of_the_panel_waits_for_those_named_under_after(page: Client, typed: str) -> None:
    rows = {"job_id": ["j1", "j2", "j3"], "branch": ["b1", "b2", "b3"], "job_type": ["TISSUE_MASK"] * 3}
    answer = page.post("/ui/workflow", panel(**rows, depends_on=["", typed, ""]))
    needs = list(Dependency.objects.order_by("id").values_list("job__job_id", "needs__job_id"))
    assert sorted(needs) == [("j2", name) for name in ("j1", "j3") if name in typed]
    shown = page.get(answer["Location"]).content.decode()
    assert f">after {', '.join(need for _, need in needs)}</p>" in shown


def test_a_panel_of_a_thousand_jobs_is_taken(page: Client) -> None:
    names = [f"j{n}" for n in range(1000)]
    rows = {"job_id": names, "branch": names, "job_type": ["TISSUE_MASK"] * 1000, "depends_on": [""] * 1000}
    assert page.post("/ui/workflow", panel(**rows)).status_code == 302
    assert Job.objects.count() == 1000


def test_the_same_form_twice_creates_one_workflow(page: Client) -> None:
    first, second = (page.post("/ui/workflow", panel())["Location"] for _ in range(2))
    assert first == second
    assert Workflow.objects.count() == 1


def test_a_form_that_was_changed_after_going_back_creates_another(page: Client) -> None:
    assert page.post("/ui/workflow", panel())["Location"] != page.post("/ui/workflow", panel(name="other"))["Location"]


@pytest.mark.parametrize(
    ("changes", "id_of_error", "text"),
    [
        ({"job_id": ["j 1", "j2"]}, "job_id-1-error", "1 to 128"),
        ({"branch": ["b1", ".."]}, "branch-2-error", "1 to 128"),
        ({"job_id": ["j1", "j1"]}, "job_id-2-error", "used twice"),
        ({"job_type": ["NOPE", "SEGMENT_CELLS"]}, "job_type-1-error", "not a job type"),
        ({"depends_on": ["", "j 1 é"]}, "depends_on-2-error", "Write ids of jobs"),
        ({"depends_on": ["", "j9"]}, "depends_on-2-error", "There is no job &#x27;j9&#x27;"),
        ({"depends_on": ["j2", "j1"]}, "depends_on-1-error", "j1 needs j2, j2 needs j1"),
        ({"name": "x" * 201}, "name-error", "At most 200"),
        ({"name": "a\0b"}, "name-error", "printable"),
        ({"slide": "x"}, "slide-error", "Choose a slide"),
        ({"slide": "00000000-0000-0000-0000-000000000000"}, "slide-error", "There is no slide"),
    ],
)
def test_what_is_wrong_stands_beside_its_field(page: Client, changes: dict[str, Any], id_of_error: str, text: str) -> None:
    answer = page.post("/ui/workflow", panel(**changes))
    html = answer.content.decode()
    assert answer.status_code == 400
    shown = re.search(rf'id="{id_of_error}".*?</p>', html, re.DOTALL)
    assert shown is not None
    assert text in shown[0]
    assert f'{id_of_error}"' in html[: shown.start()]
    assert not Workflow.objects.exists()


@pytest.mark.parametrize("changes", [{"on_failure": "explode"}, {"branch_scope": "planet"}])
def test_an_option_that_does_not_exist_is_refused(page: Client, changes: dict[str, Any]) -> None:
    assert page.post("/ui/workflow", panel(**changes)).status_code == 400
    assert not Workflow.objects.exists()


def test_a_slide_without_resolution_is_explained_at_the_slide(page: Client, amelie: User) -> None:
    slide = Slide.objects.create(
        owner=amelie, name="a.tif", path="slides/a", size_bytes=1, fingerprint="f", width=1, height=1, format="tiff"
    )
    html = page.post("/ui/workflow", panel(slide=str(slide.pk))).content.decode()
    assert "µm per pixel unknown" in html
    assert re.search(r'id="slide-error".*?microns per pixel', html, re.DOTALL)


@pytest.fixture
def unmeasured(amelie: User) -> Slide:
    """A slide whose file says nothing of its resolution."""
    return Slide.objects.create(
        owner=amelie, name="a.tif", path="slides/a", size_bytes=1, fingerprint="f", width=1, height=1, format="tiff"
    )


@pytest.mark.parametrize("typed", ["0.25", " 0,25 "])
def test_the_owner_states_the_resolution_in_the_panel_and_it_stays_with_the_slide(page: Client, unmeasured: Slide, typed: str) -> None:
    assert re.search(rf'value="{unmeasured.pk}" data-no-mpp', page.get("/ui").content.decode())
    answer = page.post("/ui/workflow", panel(slide=str(unmeasured.pk), mpp=typed))
    assert answer["Location"] == f"/ui/workflow/{Workflow.objects.get().uuid}"
    unmeasured.refresh_from_db()
    assert (unmeasured.mpp, unmeasured.mpp_source) == (0.25, "owner")
    assert "data-no-mpp" not in page.get("/ui").content.decode()


@pytest.mark.parametrize(("typed", "text"), [("a quarter", "Write a number"), ("250", "must be between"), ("nan", "must be between")])
def test_a_resolution_that_cannot_be_is_explained_beside_its_field(page: Client, unmeasured: Slide, typed: str, text: str) -> None:
    html = page.post("/ui/workflow", panel(slide=str(unmeasured.pk), mpp=typed)).content.decode()
    assert re.search(rf'id="mpp-error">(?:(?!</p>).)*{text}', html, re.DOTALL)
    unmeasured.refresh_from_db()
    assert unmeasured.mpp is None
    assert not Workflow.objects.exists()


def test_a_resolution_that_the_file_states_is_not_changed_by_the_panel(page: Client, unmeasured: Slide) -> None:
    Slide.objects.update(mpp=0.5, mpp_source="file")
    page.post("/ui/workflow", panel(slide=str(unmeasured.pk), mpp="0.25"))
    unmeasured.refresh_from_db()
    assert (unmeasured.mpp, unmeasured.mpp_source) == (0.5, "file")


def test_the_slide_of_another_user_is_neither_offered_nor_taken(page: Client, bjorn: User) -> None:
    slide = Slide.objects.create(
        owner=bjorn, name="his.tif", path="slides/b", size_bytes=1, fingerprint="f", width=1, height=1, mpp=1, format="tiff"
    )
    assert "his.tif" not in page.get("/ui").content.decode()
    assert page.post("/ui/workflow", panel(slide=str(slide.pk))).status_code == 400


def test_rows_are_added_and_removed_without_scripts(page: Client) -> None:
    html = page.post("/ui/workflow", panel(add="1")).content.decode()
    assert re.findall(r'name="job_id" value="(\w*)"', html)[:3] == ["j1", "j2", "j3"]
    assert 'value="Batch 14"' in html
    html = page.post("/ui/workflow", panel(remove="0")).content.decode()
    assert re.findall(r'name="job_id" value="(\w*)"', html)[:1] == ["j2"]
    assert not Workflow.objects.exists()


def test_an_empty_form_is_given_a_row_again(page: Client) -> None:
    assert page.post("/ui/workflow", {}).status_code == 200


def test_the_rate_limit_of_the_api_holds_here_too_and_is_told_in_seconds(page: Client, settings: Any) -> None:
    settings.ENV = dataclasses.replace(settings.ENV, rate_limit_capacity=2, rate_limit_refill_per_second=0.1)
    job = {"job_id": "j", "branch": "b", "job_type": "TISSUE_MASK"}
    body = {"jobs": [job]}
    assert Client(headers={"X-User-ID": "amelie"}).post("/workflow", body, content_type="application/json").status_code == 201
    assert page.post("/ui/workflow", panel(key="a")).status_code == 302
    answer = page.post("/ui/workflow", panel(key="b"))
    assert answer.status_code == 429
    assert 9 <= int(answer["Retry-After"]) <= 10
    assert re.search(r"Please slow down\. Try again in (9|10) seconds", answer.content.decode())
    assert page.post("/ui/workflow", panel(key="a")).status_code == 302, "a form sent twice takes no token"


def test_cancel_retry_and_delete_say_what_they_did(page: Client, amelie: User, submit: Submit) -> None:
    workflow = submit(amelie, ("j1", "b1"), ("j2", "b2"), name="Batch 14")
    address = f"/ui/workflow/{workflow.uuid}"
    for path, words, states in (
        ("/job/j2/cancel", "Job j2 is being cancelled.", ["PENDING", "CANCELLED"]),
        ("/cancel", "Batch 14 is being cancelled.", ["CANCELLED", "CANCELLED"]),
        ("/job/j1/retry", "Job j1 waits again.", ["PENDING", "CANCELLED"]),
        ("/retry", "Batch 14: failed and cancelled jobs wait again.", ["PENDING", "PENDING"]),
    ):
        assert words in page.post(address + path, follow=True).content.decode()
        assert list(Job.objects.order_by("id").values_list("state", flat=True)) == states
    assert "cancel it first" in page.post(f"{address}/delete", follow=True).content.decode()
    page.post(f"{address}/cancel")
    assert "Batch 14 was deleted." in page.post(f"{address}/delete", follow=True).content.decode()
    assert not Workflow.objects.exists()


def test_a_workflow_is_paused_and_goes_on(page: Client, amelie: User, submit: Submit) -> None:
    address = f"/ui/workflow/{submit(amelie, name='Batch 14').uuid}"
    assert page.get(address).content.decode().count('data-a="resume" hidden') == 1
    held = page.post(f"{address}/pause", follow=True).content.decode()
    assert "Batch 14 is being paused." in held
    assert 'data-a="pause" hidden' in held
    assert "Batch 14 goes on." in page.post(f"{address}/resume", follow=True).content.decode()


def test_scripts_get_the_same_words_as_json(page: Client, amelie: User, submit: Submit) -> None:
    workflow = submit(amelie)
    ask = {"headers": {"Accept": "application/json"}}
    answer = page.post(f"/ui/workflow/{workflow.uuid}/cancel", **ask)
    assert answer.json() == {"level": "success", "text": f"{workflow} is being cancelled.", "to": f"/ui/workflow/{workflow.uuid}"}
    again = page.post(f"/ui/workflow/{workflow.uuid}/cancel", **ask)
    assert (again.status_code, again.json()["level"]) == (409, "warning")
    assert Client().post(f"/ui/workflow/{workflow.uuid}/cancel", **ask).status_code == 401


@pytest.mark.parametrize("path", ["/cancel", "/retry", "/pause", "/resume", "/delete", "/job/j1/cancel", "/job/j1/retry"])
def test_the_workflow_of_another_user_cannot_be_changed(page: Client, bjorn: User, submit: Submit, path: str) -> None:
    workflow = submit(bjorn)
    assert page.post(f"/ui/workflow/{workflow.uuid}{path}").status_code == 404
    assert page.get(f"/ui/workflow/{workflow.uuid}{path}").status_code == 405
    assert Job.objects.get(workflow=workflow).state == "PENDING"


def test_an_upload_that_is_no_slide_is_refused_with_the_reason(page: Client) -> None:
    answer = page.post("/ui/slide", {"file": SimpleUploadedFile("evil.svs", b"not a slide")}, follow=True)
    assert "The slide was not kept" in answer.content.decode()
    assert "Choose a slide file first" in page.post("/ui/slide", follow=True).content.decode()
    assert not Slide.objects.exists()

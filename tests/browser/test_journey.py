"""What a newcomer does in the dashboard, in a real browser on the whole product: web, scheduler, worker, Redis."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from playwright.sync_api import Page, WebSocketRoute, expect

from tests.browser.conftest import NewPage
from tests.support.product import Product

SOON_MS = 60_000
LONG_MS = 180_000


def sign_in(page: Page, user_id: str) -> None:
    page.goto("/ui")
    page.get_by_label("User id").fill(user_id)
    page.get_by_label("User id").press("Enter")
    expect(page.locator("#conn")).to_have_attribute("data-s", "live", timeout=SOON_MS)


def create(page: Page, name: str, jobs: list[tuple[str, str]]) -> None:
    """Fill the panel with (branch, type) rows and submit it."""
    page.get_by_label("Name", exact=True).fill(name)
    for number, (branch, job_type) in enumerate(jobs, start=1):
        if number > 1:
            page.get_by_role("button", name="Add job").click()
        page.locator(f"#branch-{number}").fill(branch)
        page.locator(f"#job_type-{number}").select_option(job_type)
    page.locator("#create-button").click()


def open_lasting(page: Page, product: Product, user: str, name: str = "", tiles: int = 5000) -> None:
    """The page of a new workflow that is still running when a test has looked at every state of it; a cancel acts in a second."""
    jobs = [
        {"job_id": job_id, "branch": "b1", "job_type": "INSTANSEG_WSI", "parameters": {"tiles": tiles, "seconds_per_tile": 0.1}}
        for job_id in ("j1", "j2")
    ]
    page.goto(f"/ui/workflow/{product.ask('/workflow', {'name': name, 'jobs': jobs}, user)['workflow_id']}")


def watch(page: Page, selector: str) -> Callable[[], list[str]]:
    """Record every text that an element shows from now on, inside the page; a reload would lose it."""
    page.evaluate(
        """(selector) => {
          const node = document.querySelector(selector);
          window.seenTexts = [node.textContent];
          new MutationObserver(() => window.seenTexts.push(node.textContent)).observe(node, {childList: true, characterData: true, subtree: true});
        }""",
        selector,
    )
    return lambda: list(page.evaluate("() => window.seenTexts"))


def overflow_px(page: Page) -> int:
    return int(page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def test_a_newcomer_signs_in_creates_a_workflow_and_watches_it_finish(new_page: NewPage) -> None:
    page = new_page()
    sign_in(page, "amelie")
    expect(page.get_by_role("heading", name="No workflows yet")).to_be_visible()
    create(page, "First batch", [("left", "SEGMENT_CELLS"), ("left", "TISSUE_MASK"), ("right", "SEGMENT_CELLS")])

    expect(page).to_have_url(re.compile(r"/ui/workflow/[0-9a-f-]{36}$"))
    expect(page.locator(".lane")).to_have_count(2)
    expect(page.get_by_text("simulated")).to_have_count(3)
    seen = watch(page, "#job-j1 [data-f=tiles]")
    expect(page.locator("#job-j2 [data-f=foot]")).to_have_text("behind job j1 in branch left")
    expect(page.locator("#job-j1")).to_have_attribute("data-state", "running", timeout=SOON_MS)
    expect(page.locator("#head [data-f=icon]")).to_have_attribute("aria-label", "Running")

    expect(page.locator("#summary [data-f=status]")).to_have_text("Succeeded", timeout=LONG_MS)
    tiles = [int(text) for text in seen()]
    assert tiles == sorted(tiles)
    assert tiles[-1] == 20
    assert len(set(tiles)) >= 4, f"progress did not move: {tiles}"
    expect(page.locator("#summary [data-f=done]")).to_have_text("3")
    expect(page.locator("[data-nav=running]")).to_have_text("0")
    expect(page.get_by_role("button", name="Cancel workflow")).to_be_hidden()
    expect(page).to_have_title(re.compile("^Succeeded"))


def test_a_finished_job_offers_its_files(new_page: NewPage) -> None:
    page = new_page()
    sign_in(page, "dora")
    create(page, "", [("b1", "SEGMENT_CELLS")])
    page.get_by_text(re.compile("result file")).click(timeout=LONG_MS)
    with page.expect_download() as download:
        page.get_by_role("link", name="results.json").click()
    assert download.value.suggested_filename == "results.json"


def test_a_workflow_is_cancelled_and_run_again_without_a_reload(new_page: NewPage, product: Product) -> None:
    page = new_page()
    sign_in(page, "bjorn")
    open_lasting(page, product, "bjorn", "Night run")
    expect(page.locator("#conn")).to_have_attribute("data-s", "live", timeout=SOON_MS)
    expect(page.locator("#job-j1")).to_have_attribute("data-state", "running", timeout=SOON_MS)
    page.get_by_role("button", name="Cancel workflow").click()
    expect(page.get_by_role("dialog")).to_contain_text("Night run")
    page.get_by_role("dialog").get_by_role("button", name="Cancel workflow").click()
    expect(page.locator("#job-j2")).to_have_attribute("data-state", "cancelled")
    expect(page.locator("#summary [data-f=status]")).to_have_text("Cancelled", timeout=SOON_MS)
    expect(page.locator("#activity")).to_contain_text("j2 cancelled")

    page.get_by_role("button", name="Re-run failed").click()
    expect(page.locator("#job-j1")).to_have_attribute("data-state", "running", timeout=SOON_MS)
    expect(page.locator("#job-j1 [data-f=attempt]")).to_have_text(" · attempt 2")
    page.get_by_role("button", name="Actions on job j2").click()
    page.locator("#job-j2 [data-a=cancel] button").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel job").click()
    expect(page.locator("#job-j2")).to_have_attribute("data-state", "cancelled")
    page.get_by_role("button", name="Cancel workflow").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel workflow").click()
    expect(page.locator("#summary [data-f=status]")).to_have_text("Cancelled", timeout=SOON_MS)


def test_the_overview_shows_a_workflow_made_elsewhere_and_its_end(new_page: NewPage) -> None:
    page, other = new_page(), new_page()
    sign_in(page, "chen")
    sign_in(other, "chen")
    create(other, "From another window", [("b1", "SEGMENT_CELLS")])
    row = page.locator("#rows > li")
    expect(row).to_have_count(1, timeout=SOON_MS)
    expect(row.locator("[data-f=title]")).to_have_text("From another window")
    row.locator("[data-f=title]").focus()
    expect(row).to_have_attribute("data-state", "succeeded", timeout=LONG_MS)
    expect(row.locator("[data-f=percent]")).to_have_text("100%")
    expect(row.locator("[data-f=title]")).to_be_focused()
    expect(page.locator("[data-f=headline]")).to_have_text("You have no work", timeout=SOON_MS)


def test_the_rate_limit_is_told_with_the_seconds_to_wait(new_page: NewPage) -> None:
    page = new_page()
    sign_in(page, "eager")
    for _ in range(4):
        create(page, "again", [("b1", "TISSUE_MASK")])
        expect(page).to_have_url(re.compile("/ui/workflow/"))
        page.goto("/ui")
    create(page, "too much", [("b1", "TISSUE_MASK")])
    expect(page.locator("#flashes")).to_contain_text(re.compile(r"Rate limit exceeded\. Please slow down\. Try again in \d+ seconds"))
    expect(page.get_by_label("Name", exact=True)).to_have_value("too much")


def little_slide(folder: Path, **tags: Any) -> Path:
    """A file with a stained square, and whatever the tags say of its resolution."""
    pixels = np.full((512, 512, 3), 240, np.uint8)
    pixels[100:300, 100:300] = (200, 120, 170)
    file = folder / "little.tif"
    tifffile.imwrite(file, pixels, tile=(256, 256), photometric="rgb", **tags)
    return file


def test_a_slide_is_uploaded_chosen_and_shown_on_its_card(new_page: NewPage, tmp_path: Path) -> None:
    file = little_slide(tmp_path, resolution=(20_000, 20_000), resolutionunit="CENTIMETER")
    page = new_page()
    sign_in(page, "ines")
    page.locator("#file").set_input_files(file)
    expect(page.locator("#upload-text")).to_have_text("little.tif is ready and chosen.", timeout=SOON_MS)
    create(page, "", [("b1", "TISSUE_MASK")])
    expect(page.locator("#job-j1 .tag")).to_have_count(0)
    expect(page.locator("#job-j1 .card-slide")).to_contain_text("little.tif")
    page.wait_for_function("() => document.querySelector('#job-j1 img').naturalWidth > 0")


def test_the_resolution_is_asked_for_only_with_a_slide_that_does_not_state_it(new_page: NewPage, tmp_path: Path) -> None:
    page = new_page()
    sign_in(page, "lena")
    expect(page.get_by_label("Microns per pixel")).to_be_hidden()
    page.locator("#file").set_input_files(little_slide(tmp_path))
    expect(page.locator("#upload-text")).to_contain_text("please state its microns per pixel", timeout=SOON_MS)
    page.get_by_label("Microns per pixel").fill("50")
    create(page, "", [("b1", "TISSUE_MASK")])
    expect(page.locator("#mpp-error")).to_contain_text("must be between")
    expect(page.get_by_label("Microns per pixel")).to_be_focused()
    page.get_by_label("Microns per pixel").fill("0.5")
    page.get_by_label("Microns per pixel").press("Enter")
    expect(page.locator("#job-j1 .card-slide")).to_contain_text("little.tif")
    page.goto("/ui")
    page.locator("#slide").select_option("little.tif")
    expect(page.get_by_label("Microns per pixel")).to_be_hidden()


def test_a_long_branch_hides_what_has_succeeded_until_it_is_asked_for(new_page: NewPage) -> None:
    page = new_page()
    sign_in(page, "kim")
    parameters = {"tiles": 1, "seconds_per_tile": 0}
    jobs = [{"job_id": f"j{n}", "branch": "long", "job_type": "TISSUE_MASK", "parameters": parameters} for n in range(31)]
    answer = page.request.post("/workflow", data={"jobs": jobs}, headers={"X-User-ID": "kim"})
    assert answer.status == 201
    page.goto(f"/ui/workflow/{answer.json()['workflow_id']}")
    expect(page.locator("#summary [data-f=status]")).to_have_text("Succeeded", timeout=LONG_MS)
    expect(page.locator("#job-j5")).to_be_hidden()
    page.get_by_role("button", name="Show 31 succeeded").click()
    expect(page.locator("#job-j5")).to_be_visible()
    expect(page.get_by_role("button", name="Hide 31 succeeded")).to_be_visible()


def test_single_keys_work_outside_of_fields_and_can_be_switched_off(new_page: NewPage) -> None:
    page = new_page()
    sign_in(page, "jona")
    page.keyboard.press("/")
    expect(page.locator("#filter")).to_be_focused()
    page.keyboard.type("n/")
    expect(page.locator("#filter")).to_have_value("n/")
    page.locator("#filter").blur()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    page.get_by_label("Single-key shortcuts are on").uncheck()
    page.get_by_role("button", name="Close").click()
    page.keyboard.press("/")
    expect(page.locator("#filter")).not_to_be_focused()


def test_nothing_overflows_on_a_narrow_screen(new_page: NewPage) -> None:
    page = new_page(390, 844)
    page.goto("/ui/login")
    assert overflow_px(page) <= 0
    sign_in(page, "fatou-with-a-rather-long-name-of-fifty-characters-x")
    assert overflow_px(page) <= 0
    create(page, "A name that is long " * 8, [("a-branch-with-a-long-name-" * 4, "SEGMENT_CELLS")])
    expect(page.locator("#conn")).to_have_attribute("data-s", "live", timeout=SOON_MS)
    assert overflow_px(page) <= 0
    page.goto("/ui/workflow/nothing")
    expect(page.get_by_role("heading", name="Not found")).to_be_visible()
    assert overflow_px(page) <= 0


def test_everything_works_without_scripts(new_page: NewPage) -> None:
    page = new_page(java_script_enabled=False)
    page.goto("/ui")
    page.get_by_label("User id").fill("noscript")
    page.locator("form button", has_text="Sign in").first.click()
    page.get_by_role("button", name="Add job").click()
    expect(page.locator("#jobs .job-row")).to_have_count(2)
    page.locator("#branch-2").fill("b2")
    page.get_by_role("button", name="Add job").click()
    page.get_by_role("button", name="Remove job 3").click()
    page.locator("#create-button").click()
    expect(page.locator(".lane")).to_have_count(2)
    page.get_by_role("button", name="Cancel workflow").click()
    expect(page.locator("#flashes")).to_contain_text("is being cancelled")
    page.locator("header form button").first.click()
    expect(page.locator("html")).to_have_attribute("data-color-mode", "light")


def test_a_lost_connection_is_shown_and_found_again(new_page: NewPage) -> None:
    page = new_page()
    sockets: list[WebSocketRoute] = []
    is_away = [False]

    def route(socket: WebSocketRoute) -> None:
        if is_away[0]:
            socket.close(code=1012)
        else:
            socket.connect_to_server()
            sockets.append(socket)

    page.route_web_socket(re.compile("/ws/ui"), route)
    sign_in(page, "gina")
    is_away[0] = True
    sockets[-1].close(code=1012)
    expect(page.locator("#conn")).to_have_attribute("data-s", "wait")
    expect(page.locator("#flashes")).to_contain_text("Connection lost", timeout=SOON_MS)
    is_away[0] = False
    expect(page.locator("#conn")).to_have_attribute("data-s", "live", timeout=LONG_MS)
    expect(page.locator("#flashes")).not_to_contain_text("Connection lost")


def test_a_missed_frame_is_made_good_by_a_snapshot(new_page: NewPage, product: Product) -> None:
    page = new_page()
    dropped: list[str] = []

    def route(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def forward(message: str | bytes) -> None:
            if not dropped and '"t":"delta"' in str(message):
                dropped.append(str(message))
                # As a client that got it: otherwise the server waits, and there is no gap to find.
                server.send(json.dumps({"t": "ack", "seq": json.loads(message)["seq"]}))
            else:
                socket.send(message)

        server.on_message(forward)

    sign_in(page, "hanna")
    page.route_web_socket(re.compile("/ws/ui"), route)
    open_lasting(page, product, "hanna", "With a gap", tiles=40)
    expect(page.locator("#summary [data-f=status]")).to_have_text("Succeeded", timeout=LONG_MS)
    expect(page.locator("#job-j1 [data-f=tiles]")).to_have_text("40")
    assert dropped

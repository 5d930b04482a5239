"""axe-core finds nothing on any page, dark and light, wide and narrow. Runs where `npm ci` was run in frontend/."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import AXE, NewPage
from tests.browser.test_journey import LONG_MS, create, open_lasting, overflow_px, sign_in
from tests.support.product import Product

RULES = "['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']"
FIND = f"""async () => (await axe.run(document, {{runOnly: {RULES}}})).violations
    .map((violation) => violation.id + ': ' + violation.nodes.map((node) => node.html.slice(0, 200)).join(' | '))"""


def findings(page: Page) -> list[str]:
    page.evaluate(Path(AXE).read_text())
    return list(page.evaluate(FIND))


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("mode", ["dark", "light"])
def test_axe_finds_nothing(new_page: NewPage, product: Product, mode: str, width: int) -> None:
    page, user = new_page(width, 844), f"axe-{mode}-{width}"
    page.goto("/ui/login")
    assert findings(page) == []
    sign_in(page, user)
    if mode == "light":
        page.get_by_role("button", name="Switch to light").click()
    expect(page.locator("html")).to_have_attribute("data-color-mode", mode)
    assert findings(page) == []
    create(page, "", [("b1", "INSTANSEG_WSI"), ("b 2", "INSTANSEG_WSI")])
    expect(page.locator("#branch-2")).to_be_focused()
    assert findings(page) == []
    open_lasting(page, product, user)
    expect(page.locator("#conn")).to_have_attribute("data-s", "live", timeout=LONG_MS)
    expect(page.locator("#job-j1")).to_have_attribute("data-state", "running", timeout=LONG_MS)
    assert findings(page) == []
    page.get_by_role("button", name="Cancel workflow").click()
    assert findings(page) == []
    page.get_by_role("dialog").get_by_role("button", name="Cancel workflow").click()
    expect(page.locator("#summary [data-f=status]")).to_have_text("Cancelled", timeout=LONG_MS)
    assert findings(page) == []
    page.get_by_role("button", name="More actions").click()
    assert findings(page) == []
    page.goto("/ui/nowhere")
    assert findings(page) == []
    assert overflow_px(page) <= 0

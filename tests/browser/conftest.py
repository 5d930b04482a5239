"""A running product and a Chromium for the browser tests; any console error or refused resource fails the test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.support.product import Product

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
NewPage = Callable[..., Page]
HERE = Path(__file__).parent
AXE = HERE.parents[1] / "frontend" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Everything here needs a browser; the accessibility test also axe-core, which only `npm ci` in frontend/ brings."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("browser")
    without_axe = [item for item in items if item.path == HERE / "test_accessibility.py" and not AXE.exists()]
    if without_axe and os.environ.get("REQUIRE_BROWSER") == "1":
        raise pytest.UsageError("REQUIRE_BROWSER=1, but axe-core is not there: run `npm ci` in frontend/")
    if without_axe:
        config.hook.pytest_deselected(items=without_axe)
        items[:] = [item for item in items if item not in without_axe]
    return (yield)


@pytest.fixture(scope="package")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """The whole product, simulated tiles of a tenth of a second."""
    folder = tmp_path_factory.mktemp("p") / "d"
    running = Product(
        folder, SIMULATED_SECONDS_PER_TILE="0.1", WORKER_PROCESSES=2, RATE_LIMIT_CAPACITY=4, RATE_LIMIT_REFILL_PER_SECOND="0.01"
    ).start()
    try:
        yield running.until_ready()
    finally:
        running.clean_up()


@pytest.fixture(scope="package")
def browser(chromium: str) -> Iterator[Browser]:
    """One Chromium."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture
def new_page(browser: Browser, product: Product) -> Iterator[NewPage]:
    """Make pages of fresh sessions; what the browser complained of by the end fails the test."""
    complaints: list[str] = []

    def listen(page: Page) -> None:
        def on_console(message: ConsoleMessage) -> None:
            # A page that is meant to be refused (400, 404, 429) shows as a failed load of the page itself.
            if message.type in {"error", "warning"} and message.location.get("url") != page.url:
                complaints.append(f"{page.url}: {message.text}")

        page.on("console", on_console)
        page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))

    with ExitStack() as stack:

        def make(width: int = 1280, height: int = 800, **options: Any) -> Page:
            context = browser.new_context(
                base_url=f"http://127.0.0.1:{product.port}", viewport={"width": width, "height": height}, reduced_motion="reduce", **options
            )
            stack.callback(context.close)
            page = context.new_page()
            listen(page)
            return page

        yield make
        assert complaints == []

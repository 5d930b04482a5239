"""Vendored assets are what the record says; templates and scripts keep to the content security policy and to the sprite."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from dashboard import presenters
from dashboard.activity import ACTIVITY

ROOT = Path(__file__).resolve().parents[3]
TEMPLATES = sorted((ROOT / "templates" / "dashboard").glob("*.html")) + sorted((ROOT / "templates").glob("*.html"))
SCRIPTS = sorted((ROOT / "static" / "js").glob("*.js"))


@pytest.fixture(scope="module")
def vendor() -> ModuleType:
    spec = importlib.util.spec_from_file_location("vendor", ROOT / "scripts" / "vendor.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def icons_used() -> set[str]:
    text = "".join(path.read_text() for path in TEMPLATES)
    looks = {look["icon"] for look in presenters.LOOKS.values()}
    events = {icon for icon, _, _ in ACTIVITY.values()} | {"info"}
    return set(re.findall(r'{% icon "([a-z-]+)" %}', text)) | looks | events


def test_the_vendored_files_match_their_record(vendor: ModuleType) -> None:
    assert vendor.problems() == []


def test_a_changed_vendored_file_is_found(vendor: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vendor, "digests", lambda: {"primer/tokens.css": "0" * 64})
    assert "primer/tokens.css: differs from vendor.lock.json" in vendor.problems()


def test_the_sprite_holds_exactly_the_icons_that_are_used(vendor: ModuleType) -> None:
    sprite = (vendor.VENDOR / "primer" / "icons.svg").read_text()
    assert set(re.findall(r'<symbol id="([^"]+)"', sprite)) == icons_used()


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_has_no_inline_style_or_script(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"\sstyle\s*=|<style|\son[a-z]+\s*=|javascript:", text)
    assert re.findall(r"<script(?![^>]*\ssrc=)", text) == []


@pytest.mark.parametrize("path", [*TEMPLATES, *SCRIPTS, *sorted((ROOT / "static" / "css").glob("*.css"))], ids=lambda path: path.name)
def test_nothing_is_fetched_from_another_host(path: Path) -> None:
    assert not re.search(r"https?://|[\"'(]//", path.read_text())


@pytest.mark.parametrize("page", ["overview", "workflow"])
def test_a_page_loads_all_its_modules_at_once_and_no_other(page: str) -> None:
    stated = set(
        re.findall(r"modulepreload\" href=\"{% static 'js/([a-z]+\.js)'", (ROOT / "templates" / "dashboard" / f"{page}.html").read_text())
    )
    todo, needed = [f"{page}.js"], set[str]()
    while todo:
        name = todo.pop()
        if name not in needed:
            needed.add(name)
            todo += re.findall(r'(?:from|import) "\./([a-z]+\.js)"', (ROOT / "static" / "js" / name).read_text())
    assert stated == needed - {f"{page}.js"}

"""Vendored assets of the dashboard: Primer's colour tokens and Octicons, cut down to what the pages use.

`--write` makes static/vendor/ from frontend/node_modules (after `npm ci` there) and records every file's SHA-256;
`--check` needs the standard library alone and fails when a file differs from the record or a page uses what is not there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FRONTEND = ROOT / "frontend"
VENDOR = ROOT / "static" / "vendor"
LOCK = FRONTEND / "vendor.lock.json"
PRIMITIVES = FRONTEND / "node_modules" / "@primer" / "primitives"
OCTICONS = FRONTEND / "node_modules" / "@primer" / "octicons"

#: Symbol in the sprite -> octicon. `st-*` are the states, so that JavaScript swaps a state by one attribute.
ICONS = {
    "st-succeeded": "check-circle-fill-16",
    "st-failed": "x-circle-fill-16",
    "st-queued": "dot-fill-16",
    "st-held": "clock-16",
    "st-retrying": "issue-reopened-16",
    "st-cancelled": "stop-16",
    "st-skipped": "skip-16",
    "alert": "alert-16",
    "beaker": "beaker-16",
    "book": "book-16",
    "branch": "git-branch-16",
    "check": "check-16",
    "clock": "clock-16",
    "desktop": "device-desktop-16",
    "download": "download-16",
    "info": "info-16",
    "kebab": "kebab-horizontal-16",
    "moon": "moon-16",
    "person": "person-16",
    "pause": "pause-16",
    "play": "play-16",
    "plus": "plus-16",
    "question": "question-16",
    "search": "search-16",
    "sign-out": "sign-out-16",
    "stop": "stop-16",
    "stopwatch": "stopwatch-16",
    "sun": "sun-16",
    "sync": "sync-16",
    "trash": "trash-16",
    "upload": "upload-16",
    "workflow": "workflow-16",
    "x": "x-16",
}
#: Ours: a ring with a dot, which CSS turns.
RUNNING = (
    '<symbol id="st-running" viewBox="0 0 16 16"><circle cx="8" cy="8" r="6.5" fill="none" stroke="currentColor" stroke-opacity=".3" '
    'stroke-width="2.2"/><path d="M8 14.5A6.5 6.5 0 0 1 1.5 8" fill="none" stroke="currentColor" stroke-width="2.2"/>'
    '<circle cx="8" cy="8" r="2.8"/></symbol>'
)
SELECTORS = {
    "dark": ':root, [data-color-mode="dark"]',
    "light": '[data-color-mode="light"], [data-color-mode="auto"]',
}
DECLARATION = re.compile(r"(?<![\w-])(--[A-Za-z0-9-]+):\s*([^;{}]+);")
REFERENCE = re.compile(r"var\((--[A-Za-z0-9-]+)")


def own_sources() -> str:
    """Our style sheets and scripts, in one string."""
    files = sorted((ROOT / "static" / "css").glob("*.css")) + sorted((ROOT / "static" / "js").glob("*.js"))
    return "\n".join(file.read_text() for file in files)


def needed_tokens(defined: dict[str, str]) -> list[str]:
    """The tokens of a theme that our sources use, and those that these refer to."""
    todo, needed = [name for name in REFERENCE.findall(own_sources()) if name in defined], set[str]()
    while todo:
        name = todo.pop()
        if name not in needed:
            needed.add(name)
            todo += [other for other in REFERENCE.findall(defined[name]) if other in defined]
    return sorted(needed)


def theme(mode: str) -> dict[str, str]:
    """All tokens of a Primer theme: name -> value."""
    text = (PRIMITIVES / "dist" / "css" / "functional" / "themes" / f"{mode}.css").read_text().split("@media", 1)[0]
    return {name: value.strip() for name, value in DECLARATION.findall(text)}


def tokens_css() -> str:
    """The tokens used, for dark, light and the system's choice."""
    blocks: dict[str, str] = {}
    for mode in SELECTORS:
        defined = theme(mode)
        blocks[mode] = "\n".join(f"  {name}: {defined[name]};" for name in needed_tokens(defined))
    parts = [f"{SELECTORS[mode]} {{\n  color-scheme: {mode};\n{block}\n}}" for mode, block in blocks.items()]
    automatic = f'[data-color-mode="auto"] {{\n  color-scheme: dark;\n{blocks["dark"]}\n}}'
    parts.append(f"@media (prefers-color-scheme: dark) {{\n{automatic}\n}}")
    return "/* Made by scripts/vendor.py from @primer/primitives (MIT). */\n" + "\n".join(parts) + "\n"


def symbol(name: str, octicon: str) -> str:
    """One octicon as a symbol of the sprite."""
    text = (OCTICONS / "build" / "svg" / f"{octicon}.svg").read_text()
    body = text[text.index(">") + 1 : text.rindex("</svg>")]
    return f'<symbol id="{name}" viewBox="0 0 16 16">{body}</symbol>'


def icons_svg() -> str:
    """The sprite."""
    symbols = [RUNNING, *(symbol(name, octicon) for name, octicon in sorted(ICONS.items()))]
    return '<svg xmlns="http://www.w3.org/2000/svg">\n' + "\n".join(symbols) + "\n</svg>\n"


def versions() -> dict[str, str]:
    """Package -> exact version, as the project states them."""
    stated: dict[str, str] = json.loads((FRONTEND / "package.json").read_text())["devDependencies"]
    return {name: version for name, version in sorted(stated.items()) if name.startswith("@primer/")}


def digests() -> dict[str, str]:
    """Every vendored file -> SHA-256."""
    files = sorted(path for path in VENDOR.rglob("*") if path.is_file())
    return {path.relative_to(VENDOR).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def write() -> None:
    """Make the vendored files and their record."""
    for package, folder in (("primitives", PRIMITIVES), ("octicons", OCTICONS)):
        installed = json.loads((folder / "package.json").read_text())["version"]
        if installed != versions()[f"@primer/{package}"]:
            raise SystemExit(f"@primer/{package} {installed} is installed, not the stated version: run `npm ci` in frontend/")
    target = VENDOR / "primer"
    target.mkdir(parents=True, exist_ok=True)
    (target / "tokens.css").write_text(tokens_css())
    (target / "icons.svg").write_text(icons_svg())
    for name, folder in (("LICENSE.primitives", PRIMITIVES), ("LICENSE.octicons", OCTICONS)):
        (target / name).write_bytes((folder / "LICENSE").read_bytes())
    LOCK.write_text(json.dumps({"packages": versions(), "files": digests()}, indent=2) + "\n")


def problems() -> list[str]:
    """What is wrong with the vendored files; empty when all is well."""
    lock, present = json.loads(LOCK.read_text()), digests()
    found = [
        f"{name}: differs from vendor.lock.json"
        for name in sorted(lock["files"].keys() | present.keys())
        if lock["files"].get(name) != present.get(name)
    ]
    if lock["packages"] != versions():
        found.append("package.json states other versions than vendor.lock.json: run `vendor.py --write`")
    defined = {name for name, _ in DECLARATION.findall((VENDOR / "primer" / "tokens.css").read_text() + own_sources())}
    found += [f"{name}: used, but neither vendored nor ours" for name in sorted(set(REFERENCE.findall(own_sources())) - defined)]
    return found


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true", help="make static/vendor from frontend/node_modules")
    what.add_argument("--check", action="store_true", help="compare static/vendor with frontend/vendor.lock.json")
    if parser.parse_args().write:
        write()
    for problem in (found := problems()):
        sys.stderr.write(f"{problem}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

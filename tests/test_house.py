"""The house keeps its own rules: settings and commands are documented and tested, files stay small, locks name no registry."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scheduling.env import BASE_DIR
from tests.support.environment import SETTINGS
from tools import lock

#: Set by the product for its own processes, not by people.
INTERNAL = {"EMBEDDED"}
PYTHON_ROOMS = ("scheduling", "dashboard", "workflowsite", "tests", "tools")
LINES_ALLOWED = 400
#: Written as two pieces, so that this file does not hold what it looks for.
REGISTRY_HOSTS = ("pypi" + ".org", "pythonhosted" + ".org", "registry" + ".npmjs", "registry" + ".yarnpkg", "conda" + ".anaconda")
#: Vendored files and the licence are other people's words.
FOREIGN = ("static/vendor/", "LICENSE")


def tracked_files() -> list[Path]:
    """Every file that belongs to the repository, committed or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=BASE_DIR, capture_output=True, check=False
    )
    if listed.returncode != 0:  # an export without git
        return [path for room in PYTHON_ROOMS for path in (BASE_DIR / room).rglob("*.py")]
    return [path for name in listed.stdout.decode().split("\0") if name and (path := BASE_DIR / name).is_file()]


def settings_read() -> set[str]:
    """The variables that env.py reads."""
    source = (BASE_DIR / "scheduling" / "env.py").read_text()
    return set(re.findall(r'(?:env\.\w+\(|_url\(env, )"([A-Z][A-Z_]+)"', source))


def test_the_environment_module_is_understood_by_these_tests() -> None:
    assert len(settings_read()) >= 20
    assert settings_read() == set(SETTINGS)


@pytest.mark.parametrize("name", sorted(settings_read() - INTERNAL))
def test_every_setting_is_in_the_example_and_on_the_operators_page(name: str) -> None:
    assert re.search(rf"^#? ?{name}=", (BASE_DIR / ".env.example").read_text(), re.MULTILINE)
    assert f"`{name}`" in (BASE_DIR / "docs" / "operator.md").read_text()


def test_the_example_names_no_setting_that_does_not_exist() -> None:
    named = set(re.findall(r"^#? ?([A-Z][A-Z_]+)=", (BASE_DIR / ".env.example").read_text(), re.MULTILINE))
    assert named == settings_read() - INTERNAL


@pytest.mark.parametrize("command", sorted((BASE_DIR / "scheduling" / "management" / "commands").glob("[a-z]*.py")), ids=lambda p: p.stem)
def test_every_management_command_is_short_and_has_a_test(command: Path) -> None:
    assert len(command.read_text().splitlines()) <= 60
    tests = [path for path in (BASE_DIR / "tests").rglob("test_*.py") if path != Path(__file__)]
    assert any(re.search(rf"\b{command.stem}\b", path.read_text()) for path in tests)


def test_help_lists_every_target_that_has_a_comment_and_all_others_are_plumbing() -> None:
    makefile = (BASE_DIR / "Makefile").read_text()
    shown = subprocess.run(["make", "help"], cwd=BASE_DIR, capture_output=True, text=True, check=True).stdout
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    assert {name for name in targets if re.search(rf"^  make {name} ", shown, re.MULTILINE)} == targets - {"venv", "venv-dev"}
    assert {"run", "test", "check", "bench", "help", "lock", "fix"} <= targets


def test_make_starts_the_product_directly_so_that_signals_reach_it() -> None:
    recipe = re.search(r"^run:.*\n\t@(.*)\n\n", (BASE_DIR / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    assert not re.search(r"[;&|<>`\\\"'*?#~]|\$\(\$|&&", recipe[1])


def test_no_file_names_a_package_registry() -> None:
    found = []
    for path in tracked_files():
        name = str(path.relative_to(BASE_DIR))
        if any(name.startswith(foreign) or name.endswith(foreign) for foreign in FOREIGN):
            continue
        text = path.read_bytes().decode(errors="ignore")
        found += [f"{name}: {host}" for host in REGISTRY_HOSTS if host in text]
    assert not found


def test_no_file_is_too_long_to_be_read_at_one_go() -> None:
    long = {
        str(path.relative_to(BASE_DIR)): count
        for path in tracked_files()
        if path.suffix == ".py" and "migrations" not in path.parts and path.parts[len(BASE_DIR.parts)] in PYTHON_ROOMS
        if (count := len(path.read_text().splitlines())) > LINES_ALLOWED
    }
    assert not long


@pytest.mark.parametrize("name", sorted(lock.LOCKS))
def test_the_locks_belong_to_what_they_were_made_from(name: str) -> None:
    assert not lock.problems(name)


def test_every_page_of_the_documents_that_is_linked_exists() -> None:
    pages = [BASE_DIR / "README.md", BASE_DIR / "CONTRIBUTING.md", *(BASE_DIR / "docs").rglob("*.md")]
    broken = [
        f"{page.relative_to(BASE_DIR)} -> {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not broken


def test_an_old_python_is_told_so_in_one_line(tmp_path: Path) -> None:
    script = tmp_path / "old.py"
    source = (BASE_DIR / "tools" / "install.py").read_text()
    script.write_text(source.replace("OLDEST = (3, 11)", "OLDEST = (99, 0)").replace("ROOT = ", f"ROOT = {str(tmp_path)!r} or "))
    (tmp_path / "requirements.txt").write_text("")
    ended = subprocess.run([sys.executable, str(script), "requirements.txt"], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert "or newer is needed" in ended.stderr

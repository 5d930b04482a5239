"""`manage.py simulate` and `verify_events` on what it wrote."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command


def simulate(*arguments: str) -> str:
    """What the command prints."""
    out = StringIO()
    call_command("simulate", *arguments, stdout=out)
    return out.getvalue()


def test_the_figures_come_as_a_table_or_as_json_and_are_the_same_for_the_same_seed() -> None:
    figures = json.loads(simulate("paper", "--seed", "4", "--json"))
    assert figures == json.loads(simulate("paper", "--seed", "4", "--json"))
    assert (figures["scenario"], figures["seed"], figures["failed_jobs"], len(figures["waits"])) == ("paper", 4, 0, 4)
    table = simulate("paper", "--seed", "4")
    assert f"jain             {figures['jain']}" in table
    assert "user 4" in table


def test_the_log_that_it_writes_is_found_right_and_a_line_left_out_is_found(tmp_path: Path) -> None:
    log, out = tmp_path / "log.jsonl", StringIO()
    simulate("paper", "--log", str(log))
    call_command("verify_events", "--file", str(log), "--finished", stdout=out)
    assert "no rule is broken" in out.getvalue()
    lines = log.read_text().splitlines()
    log.write_text(
        "\n".join(line for line in lines if '"job.started"' not in line or line != next(li for li in lines if '"job.started"' in li))
    )
    with pytest.raises(SystemExit):
        call_command("verify_events", "--file", str(log), stdout=StringIO())


def test_a_scenario_that_there_is_not_is_refused() -> None:
    with pytest.raises(CommandError, match="invalid choice"):
        simulate("nothing")

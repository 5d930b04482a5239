"""Try the scheduling policy on a made-up lab in virtual time: how fair, how fast, how often jobs are taken back."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from scheduling.audit.log_event import LogEvent
from scheduling.simulator.figures import Figures
from scheduling.simulator.lab import simulate
from scheduling.simulator.scenarios import SCENARIOS, make


class Command(BaseCommand):
    """Run one of the named scenarios; the same seed gives the same figures."""

    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Which one, and what to tell."""
        parser.add_argument("scenario", choices=SCENARIOS, help=", ".join(SCENARIOS))
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--json", action="store_true", help="one JSON object in place of a table")
        parser.add_argument("--log", type=Path, help="write the event log as JSON lines, for `verify_events --file`")

    def handle(self, *_: Any, scenario: str, seed: int, log: Path | None, **options: Any) -> None:
        """Run it and print the figures."""
        with ExitStack() as stack:
            file = stack.enter_context(log.open("w")) if log else None

            def write(event: LogEvent) -> None:
                print(json.dumps(event.to_json()), file=file)

            figures = simulate(make(scenario, seed), seed, write if file else None)
        self.stdout.write(json.dumps(figures.to_json(), indent=2) if options["json"] else _table(figures))


def _table(figures: Figures) -> str:
    facts = {name: value for name, value in figures.to_json().items() if name != "waits"}
    lines = [f"{name:<16} {value}" for name, value in facts.items()]
    waits = [f"  user {wait.user:<3} p50 {wait.p50_s:>9.3f} s   p95 {wait.p95_s:>9.3f} s" for wait in figures.waits]
    return "\n".join([*lines, "wait from submission to a job's first tile", *waits])

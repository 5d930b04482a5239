"""Check the event log: one line for each rule that an event breaks, exit code 1; without one, what was checked."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from scheduling.audit.checker import Checker
from scheduling.audit.ending import unfinished_jobs
from scheduling.audit.rows import rows_agree
from scheduling.selectors import log


class Command(BaseCommand):
    """Read the log of the database, or one that the simulator wrote, and verify it."""

    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What to read, how to answer."""
        parser.add_argument("--json", action="store_true", help="one JSON object in place of lines")
        parser.add_argument("--file", type=Path, help="a log of JSON lines, as `simulate --log` writes it")
        parser.add_argument("--since", type=int, default=0, help="begin at this event; what came before is taken at face value")
        parser.add_argument("--finished", action="store_true", help="nothing may be unfinished")

    def handle(self, *_: Any, **options: Any) -> None:
        """Exit code 1 when a rule is broken."""
        path, since = options["file"], options["since"]
        try:
            before = log.file_trimmed_before(path) if path else log.log_trimmed_before()
            checker = Checker(is_partial=since > 0, complete_from=before)
            found = list(checker.read(log.file_events(path, since) if path else log.log_events(since)))
        except (OSError, ValueError) as error:
            raise CommandError(str(error)) from error
        found += checker.finish(must_be_finished=options["finished"])
        if not path:
            found += rows_agree(checker, log.unfinished_rows(), log.newest_events)
        left = sum(1 for _ in unfinished_jobs(checker.facts))
        facts = {"events": checker.events, "jobs": checker.facts.jobs_seen, "users": len(checker.facts.users), "terms": checker.facts.terms}
        if options["json"]:
            told = {**facts, "unfinished": left, "violations": [violation.to_json() for violation in found]}
            self.stdout.write(json.dumps(told, indent=2))
        else:
            for violation in found:
                self.stdout.write(str(violation))
            if not found:
                counts = ", ".join(f"{amount} {word}" for word, amount in facts.items())
                self.stdout.write(f"no rule is broken: {counts}, {left} jobs unfinished")
        if found:
            sys.exit(1)

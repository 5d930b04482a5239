"""Let the work run out before a deploy: bundles are finished, nothing is started, and it says when nothing is left."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from scheduling.selectors.queue import running_jobs, scheduler_alive
from scheduling.services.operations import set_draining

LOOK_S = 0.2
SAY_S = 2.0


class Command(BaseCommand):
    """Finish the bundles under way and start nothing more, until `drain --resume`."""

    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        """--resume, --timeout."""
        parser.add_argument("--resume", action="store_true", help="let the work go on")
        parser.add_argument("--timeout", type=float, default=600.0, help="seconds to wait for the end of what runs (600)")

    def handle(self, *_: Any, resume: bool, timeout: float, **__: Any) -> None:
        """Raises CommandError (exit 1) when something still runs after the time given."""
        is_new = set_draining(draining=not resume)
        if resume:
            self.stdout.write("resumed: work goes on" if is_new else "nothing to resume: work was not drained")
            return
        end, said_at = time.monotonic() + timeout, float("-inf")
        while left := running_jobs():
            if time.monotonic() > end:
                raise CommandError(f"not empty: {left} jobs still run; nothing is started until `drain --resume`")
            if time.monotonic() - said_at > SAY_S:
                said_at = time.monotonic()
                self.stdout.write(f"{left} jobs still have bundles under way" + ("" if scheduler_alive() else "; no scheduler is running"))
            time.sleep(LOOK_S)
        self.stdout.write("empty: nothing runs, nothing is started until `manage.py drain --resume`")

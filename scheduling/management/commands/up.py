"""`manage.py up`: what `make run` runs. The work is in workflowsite/startup.py; here it is only started."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand

from workflowsite import env
from workflowsite.embedded_redis import NoRedis
from workflowsite.preflight import CannotStart


class Command(BaseCommand):
    """Start the web server, the scheduler, a worker and, without REDIS_URL, Redis; keep them alive; stop them in order."""

    help = __doc__
    # The steps it starts make the checks, with the environment that the programs get.
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until stopped; one line and exit code 1 when it cannot start."""
        from twisted.internet import reactor  # noqa: PLC0415  (importing it installs it)

        from workflowsite.startup import run  # noqa: PLC0415

        try:
            code = run(env.read({**os.environ, "EMBEDDED": "1"}), reactor)
        except (CannotStart, NoRedis) as error:
            self.stderr.write(f"error: {error}")
            code = 1
        sys.exit(code)

"""What has to be there before the programs: tables, and with `--demo` the sample of a first start."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.checks import Tags
from django.core.management import call_command
from django.core.management.base import BaseCommand

from scheduling.services.demo import demo_submit


class Command(BaseCommand):
    """Check the settings, migrate, and on request write the sample slide, register it and submit TISSUE_MASK → SEGMENT_CELLS on it."""

    help = __doc__
    # Those of URLs, templates and the admin would load the whole web server; they can fail by a change of code alone, and `make check` makes them.
    requires_system_checks = (Tags.security, Tags.database, Tags.models)

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("--demo", action="store_true", help="on an empty database, submit the sample workflow")

    def handle(self, *_: Any, demo: bool = False, **__: Any) -> None:
        """Do what is not done yet."""
        call_command("migrate", interactive=False, verbosity=0, skip_checks=True)
        if demo:
            demo_submit()

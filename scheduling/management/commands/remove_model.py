"""Remove an installed InstanSeg model, by its name or its SHA-256. Results that were made with it stay."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from scheduling.errors import SchedulingError
from scheduling.services.installed import model_remove


class Command(BaseCommand):
    """Refuses while an unfinished job has it."""

    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        """NAME or SHA256."""
        parser.add_argument("model", metavar="NAME|SHA256")

    def handle(self, *_: Any, model: str, **__: Any) -> None:
        """Raises CommandError (exit 1) with the reason when it was not removed."""
        try:
            facts = model_remove(name_or_sha256=model)
        except SchedulingError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"removed: {facts.name}, model {facts.sha256}")

"""The first start shows real work: a sample slide, registered, masked and segmented for user `demo`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from scheduling.services.demo import demo_submit


class Command(BaseCommand):
    """On an empty database: write the sample slide, register it and submit TISSUE_MASK → SEGMENT_CELLS on it."""

    help = __doc__

    def handle(self, *_: Any, **__: Any) -> None:
        """Do nothing when there is already a workflow."""
        demo_submit()

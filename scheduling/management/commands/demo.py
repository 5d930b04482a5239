"""The first start shows real work: a sample slide, registered, masked and segmented for user `demo`."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from scheduling.models import Workflow
from scheduling.services.slides import slide_register
from scheduling.services.users import user_for_header
from scheduling.services.workflows import JobRequest, WorkflowRequest, workflow_submit
from scheduling.slides.synthetic import write_sample

USER = "demo"
NAME = "sample-he.tif"


class Command(BaseCommand):
    """On an empty database: write the sample slide, register it and submit TISSUE_MASK → SEGMENT_CELLS on it."""

    help = __doc__

    def handle(self, *_: Any, **__: Any) -> None:
        """Do nothing when there is already a workflow."""
        if Workflow.objects.exists():
            return
        folder = settings.DATA_DIR / "slides"
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / NAME).exists():
            partial = folder / f".{NAME}.partial.tif"
            write_sample(partial)
            partial.rename(folder / NAME)
        user = user_for_header(USER)
        slide = slide_register(user=user, path=NAME)
        jobs = (
            JobRequest(job_id="mask", branch="whole-slide", job_type="TISSUE_MASK"),
            JobRequest(job_id="cells", branch="whole-slide", job_type="SEGMENT_CELLS"),
        )
        workflow_submit(user=user, request=WorkflowRequest(jobs=jobs, name="Sample slide", slide=slide.pk))

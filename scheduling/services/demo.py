"""The sample workflow of a first start: a synthetic slide, masked and segmented for a user of its own."""

from __future__ import annotations

from django.conf import settings

from scheduling.models import Workflow
from scheduling.services.slides import slide_register
from scheduling.services.users import user_for_header
from scheduling.services.workflows import JobRequest, WorkflowRequest, workflow_submit
from scheduling.slides.synthetic.sample import ensure_sample

USER_ID = "demo"
SLIDE_NAME = "sample-he.tif"
WORKFLOW_NAME = "Sample slide"


def demo_submit() -> None:
    """Write the sample slide, register it and submit TISSUE_MASK → SEGMENT_CELLS on it; nothing when there is already a workflow."""
    if Workflow.objects.exists():
        return
    ensure_sample(settings.DATA_DIR / "slides" / SLIDE_NAME)
    user = user_for_header(USER_ID)
    slide = slide_register(user=user, path=SLIDE_NAME)
    jobs = (
        JobRequest(job_id="mask", branch="whole-slide", job_type="TISSUE_MASK"),
        JobRequest(job_id="cells", branch="whole-slide", job_type="SEGMENT_CELLS"),
    )
    workflow_submit(user=user, request=WorkflowRequest(jobs=jobs, name=WORKFLOW_NAME, slide=slide.pk))


def demo_exists() -> bool:
    """Whether the sample workflow is still there to be looked at."""
    return Workflow.objects.filter(owner__username=USER_ID, name=WORKFLOW_NAME).exists()

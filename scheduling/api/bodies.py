"""What answers contain, for the API's schema alone: the selectors write the bodies, a test holds both together."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from scheduling.api.serializers import DEVICES, ObjectField
from scheduling.states import JobState, WorkflowStatus


class Body(serializers.Serializer[Any]):
    """A part of an answer."""


class ErrorBody(Body):
    """A refusal: `detail`, or messages by field."""

    detail = serializers.CharField(required=False)


class AcceptedBody(Body):
    """A workflow and how it stands."""

    workflow_id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=[s.value for s in WorkflowStatus])


@extend_schema_field(
    {
        "type": "object",
        "nullable": True,
        "required": ["type", "coordinates"],
        "properties": {
            "type": {"type": "string", "enum": ["Polygon", "MultiPolygon"]},
            "coordinates": {"type": "array", "items": {}},
        },
    }
)
class GeometryField(ObjectField):
    """GeoJSON in full-resolution pixels."""


class JobBody(Body):
    """A job of a workflow."""

    job_id = serializers.CharField()
    branch = serializers.CharField()
    job_type = serializers.CharField()
    state = serializers.ChoiceField(choices=[s.value for s in JobState])
    tiles_total = serializers.IntegerField(allow_null=True, help_text="Null until a real job is planned.")
    tiles_processed = serializers.IntegerField()
    progress = serializers.FloatField(min_value=0, max_value=1)
    id = serializers.UUIDField(help_text="Names the folder of results.")
    attempt = serializers.IntegerField(min_value=1)
    waiting_reason = serializers.CharField(allow_null=True)
    error = serializers.CharField(allow_null=True)
    warnings = serializers.ListField(child=serializers.CharField())
    slide = serializers.UUIDField(allow_null=True)
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    depends_on = serializers.ListField(child=serializers.CharField(), help_text="Ids of the jobs that must have succeeded first.")
    cache = serializers.BooleanField(help_text="False: nothing was to be taken from the same work done before.")
    cached = serializers.BooleanField(help_text="The results are those of the same work done before.")
    timeout_s = serializers.FloatField(allow_null=True, help_text="Seconds that it may be running in one attempt; null: no limit.")
    region = GeometryField(allow_null=True, help_text="Polygon or MultiPolygon to which the job is limited; null: the whole slide.")
    annotation = serializers.UUIDField(allow_null=True, help_text="The annotation that is its mask.")
    requires = serializers.ChoiceField(choices=DEVICES, help_text="The kind of worker that computes it.")
    tiles_per_s = serializers.FloatField(allow_null=True, help_text="Measured over about 15 s while it runs; null when it was not yet.")
    estimated_end = serializers.DateTimeField(allow_null=True, help_text="Of a running job's last tile; null when not known.")


class _WorkflowHead(Body):
    workflow_id = serializers.UUIDField()
    user_id = serializers.CharField()
    status = serializers.ChoiceField(choices=[s.value for s in WorkflowStatus])
    name = serializers.CharField(allow_blank=True)
    progress = serializers.FloatField(min_value=0, max_value=1, help_text="The mean over the jobs.")
    paused = serializers.BooleanField()
    queue_position = serializers.IntegerField(allow_null=True, help_text="1 for the first waiting user; null when the user is active.")
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    estimated_start = serializers.DateTimeField(
        allow_null=True, help_text="When a waiting user will probably get a slot; null when active, or not known."
    )


class WorkflowBody(_WorkflowHead):
    """A workflow with its jobs, in the order submitted."""

    jobs = JobBody(many=True)


class BatchedBody(Body):
    """A workflow of a batch."""

    slide_id = serializers.UUIDField()
    name = serializers.CharField(allow_blank=True)
    workflow_id = serializers.UUIDField()


class BatchErrorBody(Body):
    """A slide of a batch for which no workflow was made."""

    slide = serializers.UUIDField(required=False)
    path = serializers.CharField(required=False, help_text="In place of `slide`, of a file in the folder.")
    field = serializers.CharField(allow_null=True, help_text="What of the template does not fit this slide, as POST /workflow names it.")
    detail = serializers.CharField()


class BatchBody(Body):
    """What became of each slide, in the order given."""

    workflows = BatchedBody(many=True)
    errors = BatchErrorBody(many=True)  # type: ignore[assignment]  # no attribute of the class


class NoBatchBody(Body):
    """No workflow could be made: messages by field, or what was wrong with each slide."""

    detail = serializers.CharField(required=False)
    errors = BatchErrorBody(many=True, required=False)  # type: ignore[assignment]  # no attribute of the class


class JobCountsBody(Body):
    """Jobs by state."""

    PENDING = serializers.IntegerField()
    RUNNING = serializers.IntegerField()
    SUCCEEDED = serializers.IntegerField()
    FAILED = serializers.IntegerField()
    CANCELLED = serializers.IntegerField()


class WorkflowRowBody(_WorkflowHead):
    """A workflow in a list."""

    job_counts = JobCountsBody()
    number = serializers.IntegerField(help_text="Counts all workflows, in order of submission.")
    branches = serializers.IntegerField()
    tiles_processed = serializers.IntegerField()
    tiles_total = serializers.IntegerField()


class EventBody(Body):
    """A transition."""

    id = serializers.IntegerField(help_text="Rises in the order of commit.")
    at = serializers.DateTimeField()
    type = serializers.CharField(help_text="Such as job.started; docs/states.md lists all.")
    actor = serializers.CharField(allow_blank=True, help_text="A user id, or scheduler.")
    reason = serializers.CharField(allow_blank=True)
    term = serializers.IntegerField(help_text="Of the scheduler that made it; 0 when a user did.")
    epoch = serializers.IntegerField(help_text="Of the job's claim; 0 when it was not running.")
    job_id = serializers.CharField(allow_null=True, help_text="Null for an event of the workflow itself.")
    job = serializers.UUIDField(allow_null=True, help_text="The job's id.")
    data = ObjectField(help_text="What else belongs to this type of event.")  # type: ignore[assignment]  # no attribute of the class


class EventPageBody(Body):
    """A part of a workflow's event log, oldest first."""

    results = EventBody(many=True)
    next = serializers.URLField(allow_null=True, help_text="Null when there is nothing more by now.")
    after = serializers.IntegerField(help_text="The last id seen: ask with it for what comes later.")


class ArtifactBody(Body):
    """A file of a job's results."""

    name = serializers.CharField()
    size = serializers.IntegerField(help_text="Bytes.")
    sha256 = serializers.CharField()
    content_type = serializers.CharField()
    url = serializers.URLField()


class ResultsBody(Body):
    """The results of a job."""

    artifacts = ArtifactBody(many=True)


class LevelBody(Body):
    """One resolution of a slide."""

    width = serializers.IntegerField()
    height = serializers.IntegerField()
    downsample = serializers.FloatField()


class SlideBody(Body):
    """A slide."""

    slide_id = serializers.UUIDField()
    name = serializers.CharField()
    width = serializers.IntegerField(help_text="Pixels at full resolution.")
    height = serializers.IntegerField(help_text="Pixels at full resolution.")
    mpp = serializers.FloatField(allow_null=True, help_text="Microns per pixel at full resolution; null until stated.")
    mpp_source = serializers.ChoiceField(choices=["file", "owner"], allow_null=True)
    mpp_from = serializers.CharField(allow_null=True, help_text="The tag or property of the file that the mpp came from.")
    warnings = serializers.ListField(child=serializers.CharField(), help_text="What is doubtful about the file.")
    levels = LevelBody(many=True)
    format = serializers.CharField()
    size_bytes = serializers.IntegerField()
    fingerprint = serializers.CharField()
    is_upload = serializers.BooleanField()
    root = serializers.CharField(  # type: ignore[assignment]  # no attribute of the class
        allow_null=True, help_text="Where its path begins, a name of GET /slide-root; null of an upload."
    )
    path = serializers.CharField(allow_null=True, help_text="Below the root; null of an upload.")
    tile_px = serializers.IntegerField(help_text="Side of a tile.")
    created_at = serializers.DateTimeField()


class SlideRootBody(Body):
    """A folder of the server from which slides can be registered."""

    name = serializers.CharField()
    is_default = serializers.BooleanField(help_text="DATA_DIR/slides, which POST /slide means when it names no root.")


class FolderEntryBody(Body):
    """A folder, or a file with the extension of a slide."""

    name = serializers.CharField()
    path = serializers.CharField(help_text="As POST /slide takes it.")
    is_folder = serializers.BooleanField()
    size_bytes = serializers.IntegerField(allow_null=True, help_text="Null of a folder.")
    slide_id = serializers.UUIDField(allow_null=True, help_text="Your slide of this path.")


class FolderBody(Body):
    """What lies in a folder of a root."""

    root = serializers.CharField()  # type: ignore[assignment]  # no attribute of the class
    folder = serializers.CharField(allow_blank=True)
    entries = FolderEntryBody(many=True)
    next = serializers.CharField(allow_null=True, help_text="The `after` of the next part; null when there is none.")


class CountsField(ObjectField):
    """Numbers by name."""


class AnnotationBody(Body):
    """Areas drawn on a slide."""

    annotation_id = serializers.UUIDField()
    slide_id = serializers.UUIDField()
    name = serializers.CharField()
    features = serializers.IntegerField(help_text="Drawn areas, those that are cut out included.")
    classes = CountsField(help_text='How many of each class; "" counts those without one.')
    area_px = serializers.FloatField(help_text="What is included less what is cut out, in full-resolution pixels.")
    area_mm2 = serializers.FloatField(allow_null=True, help_text="Null until the slide's microns per pixel are known.")
    size_bytes = serializers.IntegerField()
    sha256 = serializers.CharField(help_text="Of the GeoJSON.")
    warnings = serializers.ListField(child=serializers.CharField())
    created_at = serializers.DateTimeField()


class OverlayLevelBody(Body):
    """One resolution of the overlay; the first are the slide's own levels."""

    width = serializers.IntegerField()
    height = serializers.IntegerField()
    downsample = serializers.FloatField(help_text="Full-resolution pixels for each of its pixels.")
    columns = serializers.IntegerField()
    rows = serializers.IntegerField()
    draws = serializers.ChoiceField(choices=["cells", "density"])
    reach_px = serializers.IntegerField(help_text="Full-resolution pixels around a picture within which a tile may show in it.")


class OverlayBody(Body):
    """The pictures."""

    tile_px = serializers.IntegerField()
    levels = OverlayLevelBody(many=True)


class CellClassBody(Body):
    """A class of cells and its colour."""

    number = serializers.IntegerField()
    name = serializers.CharField()
    color = serializers.CharField(help_text="#rrggbb")


class CellTilesBody(Body):
    """The tiles of a segmentation; all places and sizes in full-resolution pixels of the slide."""

    version = serializers.CharField(help_text="The `v` of vector tiles, and the beginning of that of pictures.")
    state = serializers.ChoiceField(choices=[s.value for s in JobState])
    slide = serializers.UUIDField()
    mpp = serializers.FloatField()
    downsample = serializers.FloatField(help_text="Full-resolution pixels in a pixel that was segmented.")
    core_px = serializers.FloatField(help_text="Side of a core.")
    halo_px = serializers.FloatField(help_text="No cell reaches further beyond its core.")
    left = serializers.FloatField(help_text="Of core 0.")
    top = serializers.FloatField(help_text="Of core 0.")
    columns = serializers.IntegerField(help_text="Cores in a row of the grid.")
    rows = serializers.IntegerField()
    tiles_total = serializers.IntegerField()
    cores = serializers.ListField(child=serializers.IntegerField(), help_text="Of each tile the number of its core, row by row.")
    finished = serializers.ListField(
        child=serializers.ListField(child=serializers.IntegerField()), help_text="Half-open ranges of tiles, ascending."
    )
    classes = CellClassBody(many=True)
    overlay = OverlayBody()

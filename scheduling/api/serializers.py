"""What requests may contain: types as written, nothing coerced, unknown keys refused by name."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from scheduling.errors import Invalid
from scheduling.models import NAME_PATTERN
from scheduling.services.batches import MAX_SLIDES, BatchRequest
from scheduling.services.folders import Folder
from scheduling.services.workflows import JobRequest, WorkflowRequest
from scheduling.slides.reading.interface import PLAUSIBLE_MPP
from scheduling.states import BranchScope, OnFailure, WorkflowStatus

MAX_JOBS = 1000
MAX_TIMEOUT_S = 30 * 86_400
#: What a job may require.
DEVICES = ("cpu", "gpu")
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")
_NUL = "\0"


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses keys it does not know, beside whatever else is wrong."""

    def to_internal_value(self, data: Any) -> Any:
        """As DRF's, with `{"key": ["Unknown key."]}` for each stranger."""
        strangers = {str(key): ["Unknown key."] for key in data if key not in self.fields} if isinstance(data, Mapping) else {}
        try:
            value = super().to_internal_value(data)
        except serializers.ValidationError as error:
            known = error.detail if isinstance(error.detail, dict) else {}
            raise serializers.ValidationError({**known, **strangers}) from None
        if strangers:
            raise serializers.ValidationError(strangers)
        return value


class TextField(serializers.CharField):
    """A JSON string; numbers and booleans are not turned into one."""

    def to_internal_value(self, data: Any) -> str:
        """The string. Raises ValidationError."""
        if not isinstance(data, str):
            self.fail("invalid")
        return str(super().to_internal_value(data))


@extend_schema_field({"type": "string", "minLength": 1, "maxLength": 128, "pattern": r"^(?!\.{1,2}$)[A-Za-z0-9._-]+$"})
class NameField(TextField):
    """A job_id or a branch."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, max_length=128, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        """The name. Raises ValidationError."""
        name = super().to_internal_value(data)
        if not re.match(NAME_PATTERN, name) and name != "":
            raise serializers.ValidationError("Must be 1 to 128 characters of A-Z a-z 0-9 . _ -, not . or ..")
        return name


class ChoiceField(serializers.ChoiceField):
    """One of some words; compared as text, so that lists and objects are refused like any other value."""

    def to_internal_value(self, data: Any) -> str:
        """The word. Raises ValidationError."""
        if not isinstance(data, str):
            self.fail("invalid_choice", input=type(data).__name__)
        return str(super().to_internal_value(data))


class NumberField(serializers.FloatField):
    """A JSON number; no text and no boolean is turned into one."""

    def to_internal_value(self, data: Any) -> float:
        """The number. Raises ValidationError."""
        if isinstance(data, bool) or not isinstance(data, (int, float)):
            self.fail("invalid")
        return float(super().to_internal_value(data))


class FlagField(serializers.BooleanField):
    """true or false, no word or number that could stand for one."""

    def to_internal_value(self, data: Any) -> bool:
        """The value. Raises ValidationError."""
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class IdField(serializers.UUIDField):
    """A UUID as a string."""

    def to_internal_value(self, data: Any) -> UUID:
        """The UUID. Raises ValidationError."""
        if not isinstance(data, str):
            self.fail("invalid", value=data)
        return UUID(str(super().to_internal_value(data)))


@extend_schema_field(OpenApiTypes.OBJECT)
class ObjectField(serializers.Field[Any, Any, Any, Any]):
    """A JSON object of any content; what a job type makes of it, its schema decides."""

    default_error_messages = {"invalid": "Must be an object.", "nul": "NUL characters are not allowed."}

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """The object. Raises ValidationError."""
        if not isinstance(data, dict):
            self.fail("invalid")
        if _has_nul(data):
            self.fail("nul")
        return data

    def to_representation(self, value: Any) -> Any:
        """Unchanged."""
        return value


@extend_schema_field(
    {
        "anyOf": [{"type": "object", "additionalProperties": True}, {"type": "array", "items": {"type": "object"}}],
        "nullable": True,
        "example": {"x": 1024, "y": 2048, "width": 4096, "height": 4096},
    }
)
class RegionField(serializers.Field[Any, Any, Any, Any]):
    """A rectangle or GeoJSON, also a list of features; what makes an area of it, the service says."""

    default_error_messages = {"invalid": "Must be a rectangle or GeoJSON."}

    def to_internal_value(self, data: Any) -> Any:
        """The value as given. Raises ValidationError."""
        if not isinstance(data, dict | list):
            self.fail("invalid")
        return data

    def to_representation(self, value: Any) -> Any:
        """Unchanged."""
        return value


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return _NUL in value
    if isinstance(value, dict):
        return any(_NUL in key or _has_nul(child) for key, child in value.items())
    return isinstance(value, list) and any(_has_nul(child) for child in value)


def _above_zero(value: float) -> None:
    if not value > 0:
        raise serializers.ValidationError("Must be more than 0.")


class JobSerializer(StrictSerializer):
    """One job of a new workflow."""

    job_id = NameField(help_text="Unique in its workflow.")
    branch = NameField(help_text="Jobs of one branch run one after another, in the order given.")
    job_type = TextField(max_length=64, help_text="A name of GET /job-types.")
    parameters = ObjectField(required=False, help_text="As the job type's schema in GET /job-types says.")
    slide = IdField(required=False, allow_null=True, help_text="In place of the workflow's slide. Without any, the job is simulated.")
    region = RegionField(
        required=False,
        allow_null=True,
        help_text='In place of the workflow\'s region: {"x", "y", "width", "height"} in full-resolution pixels, or GeoJSON polygons.',
    )
    annotation = IdField(required=False, allow_null=True, help_text="An annotation of the slide, in place of a tissue mask.")
    depends_on = serializers.ListField(
        child=NameField(),
        required=False,
        max_length=MAX_JOBS,
        help_text="Ids of jobs of this workflow that must have succeeded before this one starts; it gets their artifacts.",
    )
    cache = FlagField(required=False, help_text="In place of the workflow's `cache`.")
    requires = ChoiceField(
        required=False,
        choices=DEVICES,
        help_text="The kind of worker that computes it, cpu if left out; gpu for job types that can use one.",
    )
    timeout_s = NumberField(
        required=False,
        allow_null=True,
        max_value=MAX_TIMEOUT_S,
        help_text="Seconds, more than 0, that the job may be running in one attempt; then it fails. Null: no limit.",
        validators=[_above_zero],
    )


class WorkflowSerializer(StrictSerializer):
    """A new workflow."""

    name = TextField(required=False, allow_blank=True, max_length=200)
    slide = IdField(required=False, allow_null=True, help_text="The slide of every job that names no other.")
    region = RegionField(required=False, allow_null=True, help_text="Of every job that names none; null: the whole slide.")
    branch_scope = ChoiceField(
        required=False,
        choices=[scope.value for scope in BranchScope],
        help_text="Whether a branch belongs to this workflow, or is shared by all workflows of its user.",
    )
    on_failure = ChoiceField(
        required=False, choices=[rule.value for rule in OnFailure], help_text="What a failed job does to the rest of its branch."
    )
    cache = FlagField(
        required=False, help_text="False: nothing is taken from the same work done before, all is computed. True if left out."
    )
    jobs = JobSerializer(many=True, min_length=1, max_length=MAX_JOBS)  # type: ignore[call-arg]  # many=True takes them


class TemplateJobSerializer(JobSerializer):
    """One job of every workflow of a batch."""

    slide = None  # type: ignore[assignment]  # DRF's way to leave a field out


class TemplateSerializer(WorkflowSerializer):
    """A workflow without its slide."""

    slide = None  # type: ignore[assignment]  # DRF's way to leave a field out
    jobs = TemplateJobSerializer(many=True, min_length=1, max_length=MAX_JOBS)  # type: ignore[call-arg]  # many=True takes them


class BatchSerializer(StrictSerializer):
    """A workflow for each of many slides."""

    template = TemplateSerializer()
    slides = serializers.ListField(child=IdField(), required=False, min_length=1, max_length=MAX_SLIDES, help_text="In this order.")
    folder = TextField(
        required=False,
        allow_blank=True,
        trim_whitespace=False,
        max_length=1000,
        help_text="In place of slides: relative to DATA_DIR/slides.",
    )
    root = TextField(  # type: ignore[assignment]  # no attribute of the class
        required=False, max_length=128, help_text="Where the folder lies, in place of DATA_DIR/slides."
    )
    recursive = FlagField(required=False, help_text="The folders in it as well.")
    pattern = TextField(required=False, max_length=200, help_text="Of file names, such as *.svs; all slide formats if left out.")
    name = TextField(
        required=False, allow_blank=True, max_length=200, help_text="With {slide} and {n}; the template's name if left out, else {slide}."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """One source of slides, each slide once. Raises ValidationError."""
        if ("slides" in attrs) == ("folder" in attrs):
            raise serializers.ValidationError({"slides": ["Either slides or a folder is needed, not both."]})
        of_folder = [name for name in ("root", "recursive", "pattern") if name in attrs and "folder" not in attrs]
        if of_folder:
            raise serializers.ValidationError({name: ["Only with a folder."] for name in of_folder})
        if len(set(attrs.get("slides", ()))) < len(attrs.get("slides", ())):
            raise serializers.ValidationError({"slides": ["A slide is named twice."]})
        return attrs


def batch_request(data: Any) -> BatchRequest:
    """The batch that a body asks for. Raises ValidationError."""
    values = dict(validated(BatchSerializer, data))
    folder = None
    if "folder" in values:
        more = {key: values[key] for key in ("root", "recursive", "pattern") if key in values}
        folder = Folder(path=values["folder"], **more)
    template = _request_of(values["template"])
    return BatchRequest(template=template, slides=tuple(values.get("slides", ())), folder=folder, name=values.get("name", ""))


def workflow_request(data: Any) -> WorkflowRequest:
    """The request that a body asks for. Raises ValidationError."""
    return _request_of(validated(WorkflowSerializer, data))


def _request_of(checked: Mapping[str, Any]) -> WorkflowRequest:
    values = dict(checked)
    jobs = tuple(JobRequest(**{**job, "depends_on": tuple(job.get("depends_on", ()))}) for job in values.pop("jobs"))
    return WorkflowRequest(jobs=jobs, **values)


class SlideChangeSerializer(StrictSerializer):
    """What an owner may state of a slide."""

    mpp = NumberField(min_value=PLAUSIBLE_MPP[0], max_value=PLAUSIBLE_MPP[1], help_text="Microns per pixel at full resolution.")


class SlidePathSerializer(StrictSerializer):
    """A slide that lies on the server already."""

    path = TextField(trim_whitespace=False, max_length=1000, help_text="Relative to the root. A file, or a folder of one DICOM series.")
    root = TextField(  # type: ignore[assignment]  # no attribute of the class
        required=False, max_length=64, help_text="A name of GET /slide-root; DATA_DIR/slides if left out."
    )


class SlideUploadSerializer(serializers.Serializer[Any]):
    """An uploaded file; documents the multipart form, which is read as a stream."""

    file = serializers.FileField()


class AnnotationNameSerializer(serializers.Serializer[Any]):
    """What is said of an annotation beside its GeoJSON."""

    name = serializers.CharField(required=False, max_length=255)


class PageFilter(serializers.Serializer[Any]):
    """Filters of a list; empty ones do not count, and other query parameters are somebody else's."""

    search = serializers.CharField(required=False, max_length=200)


class FolderSerializer(serializers.Serializer[Any]):
    """Which part of which folder of a root is wanted; other query parameters are somebody else's."""

    folder = serializers.CharField(required=False, default="", allow_blank=True, trim_whitespace=False, max_length=1000)
    after = serializers.CharField(required=False, default="", allow_blank=True, trim_whitespace=False, max_length=255)
    limit = serializers.IntegerField(required=False, default=200, min_value=1, max_value=1000)


class WorkflowFilter(PageFilter):
    """Filters of GET /workflow."""

    status = serializers.ChoiceField(required=False, choices=[status.value for status in WorkflowStatus])
    branch = serializers.CharField(required=False, max_length=128)
    job_type = serializers.CharField(required=False, max_length=64)


class EventPageSerializer(serializers.Serializer[Any]):
    """Which part of an event log is wanted; other query parameters are somebody else's."""

    after = serializers.IntegerField(required=False, default=0, min_value=0, max_value=2**63 - 1)
    limit = serializers.IntegerField(required=False, default=100, min_value=1, max_value=1000)


def event_page(query: Mapping[str, str]) -> tuple[int, int]:
    """(id after which to begin, how many at most). Raises ValidationError, which names the parameter."""
    checked = EventPageSerializer(data=dict(query.items()))  # an empty one of a form would count as left out
    checked.is_valid(raise_exception=True)
    return checked.validated_data["after"], checked.validated_data["limit"]


def filters(serializer: type[PageFilter], query: Mapping[str, str]) -> dict[str, str]:
    """The filters given. Raises ValidationError."""
    checked = serializer(data={key: value for key, value in query.items() if value != ""})
    checked.is_valid(raise_exception=True)
    return dict(checked.validated_data)


def validated(serializer: type[StrictSerializer], data: Any) -> Any:
    """The checked values of a body. Raises ValidationError."""
    if not isinstance(data, dict):
        raise serializers.ValidationError("The body must be a JSON object.")
    return _of_this_thread(serializer).run_validation(data)


_kept = threading.local()


def _of_this_thread(serializer: type[StrictSerializer]) -> StrictSerializer:
    """A serializer without data. DRF copies all the fields for each one that is made, which takes longer than to check a short body."""
    made: dict[type[StrictSerializer], StrictSerializer] = _kept.__dict__.setdefault("made", {})
    if serializer not in made:
        made[serializer] = serializer()
    return made[serializer]


def idempotency_key(text: str) -> str:
    """The value of an Idempotency-Key header. Raises Invalid."""
    if not _IDEMPOTENCY_KEY.match(text):
        raise Invalid("Must be 1 to 255 visible ASCII characters.", field="Idempotency-Key")
    return text

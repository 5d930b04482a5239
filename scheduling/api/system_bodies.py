"""What answers about the system contain, for the API's schema alone: job types, models, the queue, health."""

from __future__ import annotations

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from scheduling.api.bodies import Body
from scheduling.api.serializers import ObjectField


class JobTypeBody(Body):
    """A kind of job."""

    name = serializers.CharField()
    title = serializers.CharField()
    description = serializers.CharField()
    parameters = ObjectField(help_text="A JSON schema.")


class ModelBody(Body):
    """A model that INSTANSEG_WSI jobs can name."""

    name = serializers.CharField(help_text="The parameter `model`; of several with one name the newest is meant.")
    sha256 = serializers.CharField(help_text="Of the TorchScript file, hexadecimal; names one model for good.")
    pixel_size_um = serializers.FloatField(help_text="Microns in a pixel as it wants to see them.")
    outputs = serializers.ListField(child=serializers.CharField(), help_text="What it outlines: nuclei, or nuclei and cells.")
    channels = serializers.IntegerField()
    stride_px = serializers.IntegerField(help_text="Its windows begin at multiples of it.")
    reach_px = serializers.IntegerField(help_text="How far from a pixel it looks, in its own pixels.")
    window_px = serializers.IntegerField(help_text="The side of the window it was tried with.")
    is_fast = serializers.BooleanField(help_text="The fast post-processing gives its own labels, bit for bit.")
    torch = serializers.CharField(help_text="The version of torch it was tried with.")
    installed_at = serializers.DateTimeField()


class ActiveUserBody(Body):
    """A user who holds a slot."""

    user_id = serializers.CharField(allow_null=True, help_text="Null for other users.")
    since = serializers.DateTimeField()
    disk_bytes = serializers.IntegerField(allow_null=True, help_text="Of the user's files; null except for staff.")
    running = serializers.IntegerField()
    waiting = serializers.IntegerField()


class WaitingUserBody(Body):
    """A user who waits for a slot."""

    user_id = serializers.CharField(allow_null=True, help_text="Null for other users.")
    position = serializers.IntegerField()
    since = serializers.DateTimeField()
    jobs = serializers.IntegerField()
    estimated_start = serializers.DateTimeField(allow_null=True, help_text="When a slot will probably come free; null when not known.")
    disk_bytes = serializers.IntegerField(allow_null=True, help_text="Of the user's files; null except for staff.")


class DiskUseBody(Body):
    """What a user's files take: results and kept tiles of jobs, and uploaded slides."""

    user_id = serializers.CharField()
    bytes = serializers.IntegerField()


class WorkerBody(Body):
    """A worker."""

    name = serializers.CharField()
    queues = serializers.ListField(child=serializers.CharField())
    processes = serializers.IntegerField()
    state = serializers.CharField()
    heartbeat = serializers.DateTimeField()
    version = serializers.CharField(allow_blank=True, help_text="Of its code; one whose state is `other version` gets no work.")
    bundles = serializers.IntegerField(help_text="Bundles of tiles received and not yet ended.")


class QueueBody(Body):
    """Who is active, who waits, and the workers."""

    active = ActiveUserBody(many=True)
    waiting = WaitingUserBody(many=True)
    max_concurrent_users = serializers.IntegerField()
    workers = WorkerBody(many=True)
    draining = serializers.BooleanField(help_text="Nothing is started; what runs comes to its next bundle border.")
    disk = DiskUseBody(many=True, allow_null=True, help_text="All users with files, the largest first; null except for staff.")


class HealthBody(Body):
    """The web process lives."""

    status = serializers.CharField()


@extend_schema_field(OpenApiTypes.OBJECT)
class ChecksField(ObjectField):
    """Each part the service needs, "ok" or "down"."""


class ReadyBody(Body):
    """Whether work can be done."""

    status = serializers.CharField()
    checks = ChecksField()
    down = serializers.ListField(child=serializers.CharField())

"""Tables, constraints and indexes. No rules in save(), managers or signals; states are written by `store` alone."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from scheduling.states import UNFINISHED, BranchScope, JobState, OnFailure, WorkflowStatus, cpu_alone

USER_ID_PATTERN = r"^(?!\.{1,2}$)[A-Za-z0-9._@-]{1,128}\Z"
NAME_PATTERN = r"^(?!\.{1,2}$)[A-Za-z0-9._-]{1,128}\Z"


def _choices(words: Any) -> list[tuple[str, str]]:
    return [(word.value, word.value.capitalize()) for word in words]


class User(AbstractUser):
    """A tenant. `username` is the user id of the API."""

    username = models.CharField(
        max_length=128, unique=True, validators=[RegexValidator(USER_ID_PATTERN, "1–128 of A-Z a-z 0-9 . _ @ -, not . or ..")]
    )
    #: Share of the workers against other users.
    weight = models.FloatField(default=1.0)
    #: Since when the user queues for a slot; null when active or without unfinished work. FIFO of admission.
    waiting_since = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [models.CheckConstraint(condition=Q(weight__gt=0), name="user_weight_positive")]
        indexes: ClassVar = [
            # store.snapshot and selectors: the queue of waiting users, in order.
            models.Index(fields=["waiting_since", "id"], condition=Q(waiting_since__isnull=False), name="user_waiting"),
        ]


class UserSlot(models.Model):
    """The right of a user to be active. A row, never a counter."""

    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="slot")
    since = models.DateTimeField(db_default=Now())
    term = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"slot of user {self.user_id}"


class Slide(models.Model):
    """A whole-slide image of a user. Its file is an upload under DATA_DIR/uploads or a registered path, there or under a root."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="slides")
    name = models.CharField(max_length=255)
    #: A name of SLIDE_ROOTS; "" = DATA_DIR.
    root = models.CharField(max_length=64, blank=True)
    #: Relative to the root; of a slide of several files, the one to open.
    path = models.CharField(max_length=1024)
    is_upload = models.BooleanField(default=False)
    size_bytes = models.BigIntegerField()
    fingerprint = models.CharField(max_length=128)
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    #: Microns per pixel at full resolution; null until the file or the owner states it.
    mpp = models.FloatField(null=True, blank=True)
    mpp_source = models.CharField(max_length=8, blank=True, choices=[("file", "File"), ("owner", "Owner")])
    #: The tag or property of the file that it came from; "" when the owner stated it.
    mpp_from = models.CharField(max_length=64, blank=True)
    #: What registration found doubtful, for people.
    warnings = models.JSONField(default=list, blank=True)
    #: [{"width", "height", "downsample"}], full resolution first.
    levels = models.JSONField(default=list)
    format = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)
    #: A deleted slide's row stays as long as a job names it: a job that lost its slide would count as a simulated one.
    deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["-created_at", "-id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(width__gt=0) & Q(height__gt=0), name="slide_has_area"),
            models.CheckConstraint(condition=Q(mpp__isnull=True) | Q(mpp__gt=0), name="slide_mpp_positive"),
        ]
        indexes: ClassVar = [
            # GET /slide: one user's slides, newest first.
            models.Index(fields=["owner", "-created_at", "-id"], name="slide_of_owner"),
        ]

    def __str__(self) -> str:
        return self.name


class Annotation(models.Model):
    """Areas drawn on a slide, kept under DATA_DIR/annotations as they were sent. It belongs to the slide's owner."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    slide = models.ForeignKey(Slide, on_delete=models.CASCADE, related_name="annotations")
    name = models.CharField(max_length=255)
    size_bytes = models.PositiveIntegerField()
    #: Of the file, hexadecimal.
    sha256 = models.CharField(max_length=64)
    #: Areas in it, and how many of each class ("" without one).
    features = models.PositiveIntegerField()
    classes = models.JSONField(default=dict)
    #: Of what is included less what is cut out, on the slide, in full-resolution pixels.
    area_px = models.FloatField()
    warnings = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    #: As a slide's: the row stays as long as a job names it.
    deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["-created_at", "-id"]
        constraints: ClassVar = [models.CheckConstraint(condition=Q(area_px__gt=0), name="annotation_has_area")]
        indexes: ClassVar = [
            # GET /slide/{slide_id}/annotation: one slide's annotations, newest first.
            models.Index(fields=["slide", "-created_at", "-id"], name="annotation_of_slide"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def path(self) -> str:
        """Relative to DATA_DIR."""
        return f"annotations/{self.pk}.geojson"


class Workflow(models.Model):
    """Branches of jobs that a user submitted together."""

    #: The integer key is the order of submission (`#12` in the dashboard); the API speaks of the uuid.
    id = models.BigAutoField(primary_key=True)
    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="workflows")
    name = models.CharField(max_length=200, blank=True)
    slide = models.ForeignKey(Slide, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    branch_scope = models.CharField(max_length=8, choices=_choices(BranchScope), default=BranchScope.WORKFLOW)
    on_failure = models.CharField(max_length=8, choices=_choices(OnFailure), default=OnFailure.CONTINUE)
    status = models.CharField(max_length=9, choices=_choices(WorkflowStatus), default=WorkflowStatus.ACCEPTED)
    paused = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(status__in=[s.value for s in WorkflowStatus]), name="workflow_status_valid"),
        ]
        indexes: ClassVar = [
            # GET /workflow: one user's workflows, newest first, by status.
            models.Index(fields=["owner", "-id"], name="workflow_of_owner"),
            models.Index(fields=["owner", "status", "-id"], name="workflow_of_owner_by_status"),
            # store.users: is a job's workflow paused. Few are, so this is the shortest way to know.
            models.Index(fields=["id"], condition=Q(paused=True), name="workflow_paused"),
        ]

    def __str__(self) -> str:
        return self.name or f"Workflow #{self.pk}"


class Job(models.Model):
    """One job of a branch. `state`, `epoch`, `term` and tile counts are written by `store` alone."""

    #: The integer key is the order of submission and with it the order in the lane.
    id = models.BigAutoField(primary_key=True)
    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="jobs")
    #: The workflow's owner, repeated so that lanes and limits are found without a join.
    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="jobs")
    slide = models.ForeignKey(Slide, null=True, blank=True, on_delete=models.PROTECT, related_name="jobs")
    #: A GeoJSON Polygon or MultiPolygon in canonical form, to which the job is limited; null = the whole slide.
    region = models.JSONField(null=True, blank=True)
    #: Of the job's slide; its mask.
    annotation = models.ForeignKey(Annotation, null=True, blank=True, on_delete=models.PROTECT, related_name="jobs")
    job_id = models.CharField(max_length=128, validators=[RegexValidator(NAME_PATTERN)])
    branch = models.CharField(max_length=128, validators=[RegexValidator(NAME_PATTERN)])
    #: What runs serially: "w<workflow key>/<branch>" or "u<user key>/<branch>".
    lane = models.CharField(max_length=160)
    job_type = models.CharField(max_length=64)
    parameters = models.JSONField(default=dict)
    queue = models.CharField(max_length=16, default="cpu")

    state = models.CharField(max_length=9, choices=_choices(JobState), default=JobState.PENDING)
    #: 1 + explicit retries.
    attempt = models.PositiveIntegerField(default=1)
    #: The claim that may write; from a counter that never goes back. 0 = never claimed.
    epoch = models.BigIntegerField(default=0)
    #: The leader that claimed.
    term = models.BigIntegerField(default=0)
    cancel_requested = models.BooleanField(default=False)
    #: False: finished tiles and results of the same work are not taken, nor given.
    cache = models.BooleanField(default=True)
    #: The results are those of the same work done before.
    cached = models.BooleanField(default=False)
    #: Seconds that the job may be RUNNING in one attempt; null = no limit of its own.
    timeout_s = models.FloatField(null=True, blank=True)
    #: When it was claimed, and for how long it was RUNNING in earlier claims of this attempt.
    claimed_at = models.DateTimeField(null=True, blank=True)
    ran_s = models.FloatField(default=0.0)
    #: A PENDING job is not claimed before this time; and why not.
    retry_at = models.DateTimeField(null=True, blank=True)
    retry_reason = models.CharField(max_length=200, blank=True)
    #: Since when the disk has refused it without a tile finished in between.
    disk_since = models.DateTimeField(null=True, blank=True)
    #: Tries that raised, by tile index as text ("plan" for planning and finishing); an explicit retry forgets them.
    tries = models.JSONField(default=dict, blank=True)
    #: Measured by the leader while it runs.
    tiles_per_s = models.FloatField(null=True, blank=True)
    #: Artifacts and kept tiles, as a worker last told.
    disk_bytes = models.BigIntegerField(default=0)
    #: Null until planned; simulated jobs know it at submission.
    tiles_total = models.PositiveIntegerField(null=True, blank=True)
    tiles_processed = models.PositiveIntegerField(default=0)
    #: Names the folder of finished tiles; "" before the first claim.
    digest = models.CharField(max_length=64, blank=True)
    error = models.TextField(blank=True)
    #: For staff.
    traceback = models.TextField(blank=True)
    warnings = models.JSONField(default=list)
    #: [{"name", "size", "sha256"}] of a SUCCEEDED job.
    artifacts = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["workflow", "job_id"], name="job_id_unique_in_workflow"),
            models.UniqueConstraint(fields=["lane"], condition=Q(state=JobState.RUNNING), name="one_running_job_per_lane"),
            models.CheckConstraint(condition=Q(state__in=[s.value for s in JobState]), name="job_state_valid"),
            models.CheckConstraint(
                condition=Q(tiles_processed=0) | Q(tiles_total__isnull=False, tiles_processed__lte=F("tiles_total")),
                name="tiles_within_total",
            ),
            models.CheckConstraint(condition=Q(attempt__gte=1), name="job_attempt_from_one"),
        ]
        indexes: ClassVar = [
            # store.snapshot: heads of lanes of active users; store.settle_users: has the user unfinished work.
            models.Index(
                fields=["owner", "lane", "id"], condition=Q(state__in=sorted(s.value for s in UNFINISHED)), name="job_unfinished_by_lane"
            ),
            # store.workflows: has the workflow anything unfinished.
            models.Index(
                fields=["workflow"], condition=Q(state__in=sorted(s.value for s in UNFINISHED)), name="job_unfinished_of_workflow"
            ),
            # store.heads: what waits, in order of submission.
            models.Index(fields=["owner", "id"], condition=Q(state=JobState.PENDING), name="job_waiting_of_owner"),
            # store.samples, selectors.health: how much waits, and since when. Not by id: PostgreSQL would walk it for the heads of one user.
            models.Index(fields=["created_at"], condition=Q(state=JobState.PENDING), name="job_waiting_since"),
            # store.snapshot: what runs.
            models.Index(fields=["id"], condition=Q(state=JobState.RUNNING), name="job_running"),
            # store.claims: the same work, done or under way.
            models.Index(fields=["digest"], condition=~Q(digest=""), name="job_by_digest"),
            # services.slide_delete: is the slide in use.
            models.Index(fields=["slide", "state"], name="job_of_slide"),
            # selectors: filters of GET /workflow.
            models.Index(fields=["owner", "branch"], name="job_by_branch"),
            models.Index(fields=["owner", "job_type"], name="job_by_type"),
        ]

    def __str__(self) -> str:
        return self.job_id

    @property
    def progress(self) -> float:
        """Fraction of tiles processed, 0–1; 0 before the job is planned, 1 for a succeeded job without tiles."""
        if not self.tiles_total:
            return 1.0 if self.state == JobState.SUCCEEDED else 0.0
        return self.tiles_processed / self.tiles_total


class Dependency(models.Model):
    """A job that may start only when another one of its workflow has SUCCEEDED."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="dependencies")
    needs = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="dependents")

    class Meta:
        verbose_name_plural = "dependencies"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["job", "needs"], name="dependency_once"),
            models.CheckConstraint(condition=~Q(job=F("needs")), name="dependency_on_another"),
        ]

    def __str__(self) -> str:
        return f"{self.job_id} needs {self.needs_id}"


class VirtualTime(models.Model):
    """The fair-share clock of a user in a queue, so that a restart neither forgives nor forgets."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="virtual_times")
    queue = models.CharField(max_length=16)
    #: Worker-seconds ÷ weight.
    seconds = models.FloatField(default=0.0)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["user", "queue"], name="virtual_time_of_user")]

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s of user {self.user_id} in {self.queue}"


class MetricSample(models.Model):
    """Figures of one moment, every 15 seconds, for charts; kept for a week."""

    at = models.DateTimeField(db_default=Now(), db_index=True)
    #: {"jobs": {state: n}, "tiles_per_s": …, …}; `store.samples` says which.
    data = models.JSONField(default=dict)

    class Meta:
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S}"


class SchedulerLease(models.Model):
    """The one row that says who leads. Every transaction of the leader begins with an UPDATE of it."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    #: "<host>/<pid>/<start time>" of the leading process; "" when nobody leads.
    holder = models.CharField(max_length=200, blank=True)
    term = models.BigIntegerField(default=0)
    #: By the database's clock.
    trusted_until = models.DateTimeField(null=True)
    #: The last epoch handed out.
    epoch = models.BigIntegerField(default=0)
    #: `manage.py drain`: nothing is started, bundles under way are finished.
    is_draining = models.BooleanField(default=False)
    #: Queues for whose work slots are given, as the leader last said: policy.ExpectedQueues.
    expected_queues = models.JSONField(default=cpu_alone)

    class Meta:
        constraints: ClassVar = [models.CheckConstraint(condition=Q(id=1), name="one_lease")]

    def __str__(self) -> str:
        return f"term {self.term} of {self.holder or 'nobody'}"


class Event(models.Model):
    """The log of every transition: the audit trail. Plain keys, so that it outlives what it tells of."""

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(db_default=Now())
    #: For instance "job.started", "workflow.submitted", "user.admitted".
    type = models.CharField(max_length=40)
    user_id = models.BigIntegerField(null=True)
    workflow_uuid = models.UUIDField(null=True)
    job_uuid = models.UUIDField(null=True)
    term = models.BigIntegerField(default=0)
    epoch = models.BigIntegerField(default=0)
    #: A user id, or "scheduler".
    actor = models.CharField(max_length=128)
    reason = models.TextField(blank=True)
    data = models.JSONField(default=dict)

    class Meta:
        ordering: ClassVar = ["id"]
        indexes: ClassVar = [
            # The activity of a workflow, newest first.
            models.Index(fields=["workflow_uuid", "-id"], name="event_of_workflow"),
            # store.retention: the oldest.
            models.Index(fields=["at"], name="event_age"),
        ]

    def __str__(self) -> str:
        return f"{self.type} #{self.pk}"


class IdempotencyKey(models.Model):
    """The first answer to a POST that carried an Idempotency-Key; kept for 24 hours."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    #: SHA-256 of the body as sent.
    body_sha256 = models.CharField(max_length=64)
    #: The first one of a batch.
    workflow_uuid = models.UUIDField()
    #: The whole answer to a batch; null for one workflow.
    answer = models.JSONField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["user", "key"], name="idempotency_key_of_user")]
        indexes: ClassVar = [
            # housekeeping: removal of keys older than a day.
            models.Index(fields=["created_at"], name="idempotency_key_age"),
        ]

    def __str__(self) -> str:
        return self.key

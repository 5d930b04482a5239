"""The "Create workflow" panel between its form and the service: reads what was typed, says what is wrong beside the field."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from uuid import UUID, uuid4

from django.http import QueryDict

from scheduling.errors import Invalid, SchedulingError
from scheduling.jobtypes import registry
from scheduling.models import NAME_PATTERN
from scheduling.services.workflows import Idempotency, JobRequest, WorkflowRequest
from scheduling.states import BranchScope, OnFailure

MAX_JOBS = 1000
MAX_NAME = 200
NAME_RULE = "1 to 128 of A-Z a-z 0-9 . _ -"
_INDEXED = re.compile(r"jobs\[(\d+)\]\.(\w+)")


@dataclass
class DraftJob:
    """One row of the panel."""

    job_id: str
    branch: str
    job_type: str
    #: Ids of jobs that must have succeeded first, as typed: with commas or spaces between them.
    depends_on: str = ""
    #: Field -> what is wrong.
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def needs(self) -> tuple[str, ...]:
        """The ids in `depends_on`."""
        return tuple(re.findall(r"[^\s,;]+", self.depends_on))


@dataclass
class Draft:
    """What stands in the panel."""

    name: str = ""
    slide: str = ""
    #: Microns per pixel of a slide whose file does not state them, as typed.
    mpp: str = ""
    on_failure: str = OnFailure.CONTINUE
    branch_scope: str = BranchScope.WORKFLOW
    jobs: list[DraftJob] = field(default_factory=list)
    #: Guards against a second submit of the same form.
    key: str = field(default_factory=lambda: uuid4().hex)
    errors: dict[str, str] = field(default_factory=dict)

    @classmethod
    def fresh(cls) -> Draft:
        """An empty panel with one row."""
        draft = cls()
        draft.add_row()
        return draft

    @classmethod
    def of(cls, post: QueryDict) -> Draft:
        """What was typed. Rows without a job and a branch are left out."""
        kinds = post.getlist("job_type")
        # The one column that may be left out.
        needs = [*post.getlist("depends_on"), *[""] * len(kinds)]
        columns = zip(post.getlist("job_id"), post.getlist("branch"), kinds, needs, strict=False)
        rows = [
            DraftJob(job_id=job.strip(), branch=branch.strip(), job_type=kind, depends_on=after.strip())
            for job, branch, kind, after in columns
        ]
        return cls(
            name=post.get("name", "").strip(),
            slide=post.get("slide", ""),
            mpp=post.get("mpp", "").strip()[:20],
            on_failure=post.get("on_failure", OnFailure.CONTINUE),
            branch_scope=post.get("branch_scope", BranchScope.WORKFLOW),
            jobs=[row for row in rows if row.job_id or row.branch][: MAX_JOBS + 1],
            key=post.get("key", "")[:64] or uuid4().hex,
        )

    @property
    def has_errors(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.errors) or any(job.errors for job in self.jobs)

    @property
    def branches(self) -> list[str]:
        """Names typed so far, for the list of suggestions."""
        return list(dict.fromkeys(job.branch for job in self.jobs if job.branch))

    def add_row(self) -> None:
        """One more job, in the branch of the last one."""
        taken = {job.job_id for job in self.jobs}
        job_id = next(name for n in range(1, MAX_JOBS + 3) if (name := f"j{n}") not in taken)
        last = self.jobs[-1] if self.jobs else None
        self.jobs.append(
            DraftJob(job_id=job_id, branch=last.branch if last else "b1", job_type="SEGMENT_CELLS" if last else registry.names()[0])
        )

    def remove_row(self, index: int) -> None:
        """Take a job out; the last one stays."""
        if 0 <= index < len(self.jobs) > 1:
            del self.jobs[index]

    def check(self) -> bool:
        """Fill `errors` with what the form itself can tell; True when nothing is wrong."""
        if len(self.name) > MAX_NAME or not self.name.isprintable():
            self.errors["name"] = f"At most {MAX_NAME} printable characters."
        if self.slide and _uuid(self.slide) is None:
            self.errors["slide"] = "Choose a slide of the list."
        if self.on_failure not in set(OnFailure) or self.branch_scope not in set(BranchScope):
            self.errors["options"] = "Choose one of the list."
        if not 1 <= len(self.jobs) <= MAX_JOBS:
            self.errors["jobs"] = f"A workflow has 1 to {MAX_JOBS:,} jobs."
        for job in self.jobs:
            job.errors |= {name: f"Use {NAME_RULE}." for name in ("job_id", "branch") if not re.match(NAME_PATTERN, getattr(job, name))}
            if not all(re.match(NAME_PATTERN, name) for name in job.needs):
                job.errors["depends_on"] = "Write ids of jobs, such as j1, j3."
        return not self.has_errors

    def take_refusal(self, error: SchedulingError) -> None:
        """Put what the service refused beside its field."""
        where = _INDEXED.match(error.field or "")
        if where and int(where[1]) < len(self.jobs):
            job, name = self.jobs[int(where[1])], "job_type" if where[2] == "parameters" else where[2]
            # A row has no slide of its own: the workflow's is meant.
            (self.errors if name == "slide" else job.errors)[name] = error.message
        else:
            self.errors[error.field if error.field in {"name", "slide", "mpp"} else "jobs"] = error.message

    def resolution(self) -> float | None:
        """The microns per pixel typed, None when left empty; a comma counts as a point. Raises Invalid."""
        if not self.mpp:
            return None
        try:
            return float(self.mpp.replace(",", "."))
        except ValueError:
            raise Invalid("Write a number such as 0.25.", field="mpp") from None

    def request(self) -> WorkflowRequest:
        """For the service; `check` came first."""
        jobs = tuple(JobRequest(job_id=job.job_id, branch=job.branch, job_type=job.job_type, depends_on=job.needs) for job in self.jobs)
        return WorkflowRequest(
            jobs=jobs, name=self.name, slide=_uuid(self.slide), branch_scope=self.branch_scope, on_failure=self.on_failure
        )

    def idempotency(self) -> Idempotency:
        """The form's key; going back and changing something makes another key, so that it is not refused."""
        typed = {key: value for key, value in asdict(self).items() if key not in {"key", "errors"}}
        digest = hashlib.sha256(json.dumps(typed, sort_keys=True).encode()).hexdigest()
        return Idempotency(key=f"form-{self.key}-{digest[:16]}", body_sha256=digest)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None

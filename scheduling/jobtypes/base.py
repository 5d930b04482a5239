"""What a job type is, and what it is given. Runs on a worker: no Django, no database.

A job type turns a job into tiles (`plan`), computes tiles (`process`) and makes the artifacts (`finish`). All three are
idempotent: any step may run twice, on two workers at once, and must give the same files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar
from uuid import uuid4

from scheduling.slides.reading.places import located
from scheduling.tilestore.stage_times import Work
from scheduling.tilestore.tilefiles import FolderGone, TileFolder

Step = Callable[[], None]
#: A slide of 10^10 pixels has 40,000 tiles of 512 px; the scheduler keeps a byte for each tile.
MAX_TILES = 10_000_000
#: The artifact that tells of the run. Nothing of what another job reads from it may differ when the same work is done again.
SUMMARY = "summary.json"


class JobFailed(Exception):
    """Raised by a job type to fail its job at once with a message for the user; a retry of the tile would not help."""


class BadParameter(Exception):
    """Raised by `JobType.settled` for a parameter that fits the schema and still cannot be used here."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        #: Of the parameter.
        self.name = name


class TileFailed(Exception):
    """Raised by `process` when one tile of a batch failed; any other exception blames the first tile not yet yielded."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


@dataclass(frozen=True, kw_only=True)
class SlideRef:
    """A slide as a worker sees it."""

    id: str
    name: str
    #: Relative to DATA_DIR, or to the root.
    path: str
    fingerprint: str
    #: Microns per pixel at full resolution, as read from the file or stated by the owner. Real jobs always have it.
    mpp: float
    #: A name of the worker's own SLIDE_ROOTS; "" = DATA_DIR.
    root: str = ""


@dataclass(frozen=True, kw_only=True)
class InputRef:
    """An earlier job of the branch whose artifacts this job reads."""

    job: str
    job_type: str
    #: Digest over the artifacts, less the summary, which tells of the run; part of this job's own digest.
    digest: str


@dataclass(frozen=True, kw_only=True)
class AnnotationRef:
    """Areas drawn on the slide in which this job looks, in place of a tissue mask."""

    #: Relative to DATA_DIR.
    path: str
    #: SHA-256 (hex) of the file; part of this job's digest.
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ReuseRef:
    """An earlier job of the same owner that did the same work (it has the same digest) and whose results may be taken."""

    #: Its uuid.
    job: str
    tiles_total: int
    #: What it recorded: [{"name", "size", "sha256"}].
    artifacts: tuple[dict[str, Any], ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """Everything a worker needs to know of a job; travels as JSON in every bundle."""

    #: The job's uuid; names its results folder.
    id: str
    owner: str
    job_type: str
    parameters: dict[str, Any]
    slide: SlideRef | None
    inputs: tuple[InputRef, ...] = ()
    #: A GeoJSON Polygon or MultiPolygon on the slide, in canonical form: nothing outside it is wanted.
    region: dict[str, Any] | None = None
    annotation: AnnotationRef | None = None
    #: Names the tile folder; the same for every job of this owner that does the same work.
    digest: str = ""
    #: The finished tiles are packed and stay when the artifacts are complete; otherwise they are removed.
    keeps_tiles: bool = False
    #: Whose results answer this job without any work, if they are still whole.
    reuse: ReuseRef | None = None
    #: The kind of device that it computes on, a name of its type's `devices`: "cpu" or "gpu".
    device: str = "cpu"

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> JobSpec:
        """Inverse of to_json."""
        slide = SlideRef(**data["slide"]) if data["slide"] else None
        reuse = _reuse_from(data["reuse"]) if data.get("reuse") else None
        annotation = AnnotationRef(**data["annotation"]) if data.get("annotation") else None
        inputs = tuple(InputRef(**ref) for ref in data["inputs"])
        return cls(**{**data, "slide": slide, "inputs": inputs, "annotation": annotation, "reuse": reuse})


def _reuse_from(data: dict[str, Any]) -> ReuseRef:
    return ReuseRef(**{**data, "artifacts": tuple(data["artifacts"]), "warnings": tuple(data["warnings"])})


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """What a worker reads from its environment."""

    data_dir: Path
    #: Where the roots of SLIDE_ROOTS lie on this host.
    slide_roots: Mapping[str, Path] = field(default_factory=dict)
    #: SIMULATED_SECONDS_PER_TILE; None = the simulated types' own times.
    simulated_seconds_per_tile: float | None = None
    #: TORCH_DEVICE: "auto", "cpu", "cuda" or "cuda:N".
    torch_device: str = "auto"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What planning found out."""

    tiles_total: int
    #: Tiles that `process` takes in one call; bundles are cut at multiples of it.
    batch: int = 1
    #: Expected seconds for one tile: only a first guess, measured times replace it.
    seconds_per_tile: float = 0.25
    #: For the job's `warnings`, for instance an implausible tissue mask.
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.tiles_total <= MAX_TILES or self.batch < 1:
            raise ValueError(f"a plan of {self.tiles_total} tiles in batches of {self.batch} cannot be carried out")


@dataclass(frozen=True, kw_only=True)
class JobContext:
    """A job on a worker: its spec, its folders, its inputs."""

    spec: JobSpec
    settings: WorkerSettings
    #: Warnings that `finish` steps add; they reach the job when it ends.
    warnings: list[str] = field(default_factory=list)
    #: What this process has worked since it was last noted, by stage; job types name their stages.
    work: Work = field(default_factory=Work, compare=False)

    @property
    def tiles(self) -> TileFolder:
        """Finished tiles and named parts of this work; other jobs may be at the same."""
        return TileFolder(self.settings.data_dir / "tiles" / self.spec.digest)

    @property
    def results(self) -> Path:
        """Folder of the published artifacts. Made by the scheduler; its absence means that the job was deleted."""
        return self.settings.data_dir / "results" / self.spec.id

    @property
    def slide_path(self) -> Path:
        """The slide's file. Raises JobFailed for a job without a slide, RootAway, UnreadableSlide."""
        if self.spec.slide is None:
            raise JobFailed("This job has no slide.")
        return located(self.settings.data_dir, self.settings.slide_roots, self.spec.slide.root, self.spec.slide.path)

    @property
    def torch_device(self) -> str:
        """Where torch computes this job: "cpu", or for a job that requires a gpu what its worker has, "cuda" unless TORCH_DEVICE says otherwise."""
        if self.spec.device == "cpu":
            return "cpu"
        return "cuda" if self.settings.torch_device == "auto" else self.settings.torch_device

    def input_artifact(self, job_type: str, name: str) -> Path | None:
        """Artifact `name` of the input job of that type; None when there is no such input."""
        for ref in self.spec.inputs:
            if ref.job_type == job_type:
                return self.settings.data_dir / "results" / ref.job / name
        return None

    @contextmanager
    def write_part(self, name: str) -> Iterator[IO[bytes]]:
        """Write a file of the work folder (`part_path(name)`) that appears complete or not at all; the last writer wins."""
        target = self.part_path(name)
        try:
            target.parent.mkdir(exist_ok=True)
        except FileNotFoundError as error:
            raise FolderGone(str(self.results)) from error
        with self._written(target) as file:
            yield file

    @contextmanager
    def _written(self, target: Path) -> Iterator[IO[bytes]]:
        temporary = target.with_name(f".{target.name}.{uuid4().hex}")
        try:
            with temporary.open("wb") as file:
                yield file
            temporary.replace(target)
        except FileNotFoundError as error:
            raise FolderGone(str(self.results)) from error
        finally:
            temporary.unlink(missing_ok=True)

    def put_part(self, name: str, data: bytes) -> None:
        """As write_part, for what is in memory already."""
        with self.write_part(name) as file:
            file.write(data)

    def put_artifact(self, name: str, data: bytes) -> None:
        """A small artifact, made in one step: appears complete or not at all, with no part in between."""
        with self._written(self.results / name) as file:
            file.write(data)

    def part_path(self, name: str) -> Path:
        """A file between finish steps; the folder is removed when the artifacts are complete."""
        return self.results / ".parts" / name

    def publish_artifact(self, name: str) -> None:
        """Move the part `name` to the results; does nothing when an earlier run of the step has moved it already."""
        try:
            self.part_path(name).replace(self.results / name)
        except FileNotFoundError:
            if not (self.results / name).exists():
                raise


class JobType(ABC):
    """One kind of job on a slide. Third parties register theirs under the entry-point group workflow_scheduler.job_types."""

    #: As in the API, for instance TISSUE_MASK.
    name: ClassVar[str]
    #: For people, for instance "Tissue mask".
    title: ClassVar[str]
    description: ClassVar[str]
    #: Raised whenever the output changes for the same input; part of the digest, so stale tiles are never taken.
    version: ClassVar[str]
    #: JSON schema of `parameters` (type object, additionalProperties false, a default and a description for each).
    parameters: ClassVar[dict[str, Any]]
    #: Names of job types whose artifacts this one reads when such a job stands before it in its branch, on the same slide.
    consumes: ClassVar[tuple[str, ...]] = ()
    #: What a job may be limited by: "region", "annotation". A type that does not name it would ignore it, so it is refused.
    limits: ClassVar[tuple[str, ...]] = ()

    #: Kinds of device that a job may require, each the name of a queue; "cpu" is what a job gets that requires nothing.
    devices: ClassVar[tuple[str, ...]] = ("cpu",)

    #: Seconds that planning, and one step of finishing, take at most when all is well; ten times that is taken for stuck.
    plan_s: ClassVar[float] = 1.0
    step_s: ClassVar[float] = 1.0

    @classmethod
    def settled(cls, parameters: dict[str, Any], data_dir: Path) -> dict[str, Any]:
        """What is stored of the valid parameters of a new job on a slide: what must not change later is chosen here.

        Settled parameters, given again, settle to themselves as long as they can be used. Raises BadParameter.
        """
        return parameters

    @abstractmethod
    def plan(self, context: JobContext) -> Plan:
        """Fix what holds for the whole slide (published with `tiles.publish_part`) and say how many tiles there are."""

    @abstractmethod
    def process(self, context: JobContext, tiles: Sequence[int]) -> Iterable[tuple[int, bytes]]:
        """Compute at most `Plan.batch` tiles; yield (index, payload) for each. The caller publishes."""

    @abstractmethod
    def finish(self, context: JobContext) -> Sequence[Step]:
        """The steps (each well under a second, idempotent, in order) that turn the finished tiles into artifacts.

        Steps write with `write_part`; the last one or ones call `publish_artifact`. Files in `results` are the artifacts.
        """

"""What travels between the leader and the workers: bundles out, outcomes back. Plain values, JSON on the wire. No Django."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from scheduling.jobtypes.base import JobSpec

#: The Celery task that carries out a parcel.
TASK = "scheduling.parcel"
#: Characters of a message or a traceback that are kept.
MAX_TEXT = 100_000


class Kind(StrEnum):
    """What a bundle asks for."""

    #: Count the tiles, and say which are finished already.
    PLAN = "plan"
    #: Compute tiles.
    TILES = "tiles"
    #: Carry out steps that make the artifacts.
    FINISH = "finish"


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Work sent to a worker at once."""

    id: str
    kind: Kind
    #: The leader's term: the outcome goes to the inbox of this term.
    term: int
    #: The claim that the work belongs to.
    epoch: int
    spec: JobSpec
    time_box_s: float
    #: The worker's process is ended when it does nothing for this long: it uses no CPU, waits for none, and reads and writes nothing.
    limit_s: float = 3600.0
    #: TILES: indices, in multiples of `batch`.
    tiles: tuple[int, ...] = ()
    batch: int = 1
    #: FINISH: how many tiles the artifacts are made from.
    tiles_total: int = 0
    #: PLAN, FINISH: the first step to carry out.
    step: int = 0
    #: TILES: no other tile of the job is missing; a worker with time left goes on to the artifacts.
    is_last: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists. (`asdict` would copy every tile index and parameter by itself.)"""
        return {**{field.name: getattr(self, field.name) for field in fields(self)}, "spec": self.spec.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Bundle:
        """Inverse of to_json."""
        return cls(**{**data, "kind": Kind(data["kind"]), "spec": JobSpec.from_json(data["spec"]), "tiles": tuple(data["tiles"])})


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """Bundles, of several jobs perhaps, that travel in one message and are carried out one after the other."""

    bundles: tuple[Bundle, ...]
    queue: str
    #: It overtakes the others.
    is_first: bool

    @property
    def id(self) -> str:
        """What queues and heartbeats name."""
        return self.bundles[0].id


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Something raised on the worker."""

    message: str
    traceback: str = ""
    #: The tile that raised; None when it was not a tile.
    tile: int | None = None
    #: A retry would not help: the job type says so.
    is_final: bool = False
    #: Why the disk refuses, "No space left on device" say: no fault of the tile, and it may pass.
    refusal: str = ""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The answer to a PLAN bundle."""

    tiles_total: int
    batch: int
    seconds_per_tile: float
    warnings: tuple[str, ...] = ()
    #: Finished tiles, as half-open ranges.
    finished: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if self.tiles_total < 0 or self.batch < 1 or not all(0 <= start <= stop <= self.tiles_total for start, stop in self.finished):
            raise ValueError(f"a plan of {self.tiles_total} tiles in batches of {self.batch} cannot be carried out")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a bundle."""

    bundle: str
    #: The job's uuid.
    job: str
    epoch: int
    worker: str = ""
    #: Worker-seconds that the bundle took.
    seconds: float = 0.0
    #: TILES: indices now finished.
    done: tuple[int, ...] = ()
    plan: Planned | None = None
    #: PLAN, FINISH: the step to go on with; None when the survey or the artifacts are complete.
    next_step: int | None = None
    #: FINISH, complete, or PLAN answered by the same work done before: [{"name", "size", "sha256"}].
    artifacts: tuple[dict[str, Any], ...] | None = None
    #: With artifacts: the tiles found on disk, as half-open ranges, and the bytes that stay there.
    found: tuple[tuple[int, int], ...] | None = None
    disk_bytes: int | None = None
    warnings: tuple[str, ...] = ()
    failure: Failure | None = None
    #: The job's folder is not there: the job was deleted or taken away.
    is_gone: bool = False
    #: A tile that counted as finished is missing or damaged.
    is_damaged: bool = False
    #: The worker's process died, or the bundle came too late to be started.
    is_lost: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Outcome:
        """Inverse of to_json."""
        plan, failure, artifacts, found = data["plan"], data["failure"], data["artifacts"], data["found"]
        return cls(
            **{
                **data,
                "done": tuple(data["done"]),
                "plan": _plan_from(plan) if plan else None,
                "failure": Failure(**_storable(failure)) if failure else None,
                "artifacts": None if artifacts is None else tuple(_storable(artifacts)),
                "found": None if found is None else tuple((int(start), int(stop)) for start, stop in found),
                "warnings": tuple(_storable(data["warnings"])),
            }
        )


def _plan_from(data: dict[str, Any]) -> Planned:
    finished = tuple((start, stop) for start, stop in data["finished"])
    return Planned(**{**data, "warnings": tuple(_storable(data["warnings"])), "finished": finished})


def _storable(value: Any) -> Any:
    """The value with every text such that both databases take it.

    An exception's text may hold whatever a file name or a slide's header holds: PostgreSQL refuses NUL, SQLite lone surrogates.
    """
    if isinstance(value, str):
        return value[:MAX_TEXT].replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    return [_storable(item) for item in value] if isinstance(value, list | tuple) else value

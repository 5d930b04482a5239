"""The environment, read once and typed. Workers read this and nothing of Django; a bad value names its variable."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

BASE_DIR = Path(__file__).resolve().parent.parent
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
#: A unix socket's path is at most so long.
MAX_SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107
MAX_WORKERS_LIMIT = 10_000
#: A name, an IPv4 address or, in brackets, an IPv6 address; a leading dot stands for a domain and all below it.
_HOST_NAME = re.compile(r"\.?[\w-]+(\.[\w-]+)*\.?|\[[0-9A-Fa-f:.]+\]")
_ROOT_NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,64}")
#: DATA_DIR/slides, as the API calls it beside the roots of SLIDE_ROOTS.
DEFAULT_ROOT = "slides"


def without_password(url: str) -> str:
    """The URL for people to read: what stands between `://` and `@` is left out."""
    return re.sub(r"://[^/@]*@", "://…@", url)


class BadSetting(Exception):
    """A setting in the environment cannot be used."""

    def __init__(self, name: str, value: str, reason: str) -> None:
        super().__init__(f"{name}={without_password(value)!r}: {reason}")
        self.name = name


class Reader:
    """Typed reading of one environment; an empty value counts as unset."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str, default: str) -> str:
        """The value, or the default."""
        return self._environ.get(name, "").strip() or default

    def optional(self, name: str) -> str | None:
        """The value, or None when unset."""
        return self.text(name, "") or None

    def integer(self, name: str, default: int, *, minimum: int, maximum: int | None = None) -> int:
        """A whole number within bounds."""
        value = self.optional(name)
        if value is None:
            return default
        if not re.fullmatch(r"[+-]?\d{1,18}", value):
            raise BadSetting(name, value, "must be a whole number")
        return int(self._bounded(name, value, int(value), minimum, maximum))

    def number(self, name: str, default: float, *, minimum: float, exclusive: bool = False) -> float:
        """A finite number of at least (exclusive: above) the minimum."""
        value = self.optional(name)
        return default if value is None else self._number(name, value, minimum, exclusive)

    def optional_number(self, name: str, *, minimum: float) -> float | None:
        """As number, None when unset."""
        value = self.optional(name)
        return None if value is None else self._number(name, value, minimum, exclusive=False)

    def boolean(self, name: str, *, default: bool) -> bool:
        """1 or 0 (also true/false, yes/no, on/off)."""
        value = self.optional(name)
        if value is None:
            return default
        if value.lower() in {"1", "true", "yes", "on"}:
            return True
        if value.lower() in {"0", "false", "no", "off"}:
            return False
        raise BadSetting(name, value, "must be 1 or 0")

    def names(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """A comma-separated list."""
        value = self.optional(name)
        return default if value is None else tuple(part.strip() for part in value.split(",") if part.strip())

    @staticmethod
    def _bounded(name: str, value: str, number: float, minimum: float, maximum: float | None) -> float:
        if number < minimum:
            raise BadSetting(name, value, f"must be at least {minimum:g}")
        if maximum is not None and number > maximum:
            raise BadSetting(name, value, f"must be at most {maximum:g}")
        return number

    @classmethod
    def _number(cls, name: str, value: str, minimum: float, exclusive: bool) -> float:
        try:
            number = float(value)
        except ValueError:
            raise BadSetting(name, value, "must be a number") from None
        if number != number or number in (float("inf"), float("-inf")):
            raise BadSetting(name, value, "must be a finite number")
        if exclusive and number <= minimum:
            raise BadSetting(name, value, f"must be above {minimum:g}")
        return cls._bounded(name, value, number, minimum, None)


@dataclass(frozen=True, kw_only=True)
class SlideRoot:
    """A folder of slides that is only read, and who may register slides from it."""

    name: str
    path: Path
    #: Django's groups; () = every user.
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Every setting of the product. Defaults and meanings: `.env.example`."""

    host: str
    port: int
    data_dir: Path
    database_url: str | None
    #: As given; None = embedded Redis on `redis_socket`.
    redis_url_given: str | None
    max_workers: int
    worker_processes: int
    max_concurrent_users: int
    user_slot_max_seconds: float
    no_progress_seconds: float
    event_retention_days: int
    rate_limit_capacity: int
    rate_limit_refill_per_second: float
    simulated_seconds_per_tile: float | None
    max_upload_bytes: int
    slide_roots: tuple[SlideRoot, ...]
    #: Whether `make run` starts a worker of the queue gpu; None: when torch sees a CUDA device.
    gpu_worker: bool | None
    #: "auto", "cpu", "cuda" or "cuda:N": the device of torch code in workers of the queue gpu.
    torch_device: str
    trust_user_header: bool
    demo: bool
    secret_key: str | None
    debug: bool
    allowed_hosts: tuple[str, ...]
    csrf_trusted_origins: tuple[str, ...]
    log_json: bool
    #: Cookies, redirects and HSTS for a server reached by https (behind a proxy that sets X-Forwarded-Proto).
    https: bool
    #: True for the processes of `make run`: everything on one machine.
    embedded: bool

    @property
    def redis_socket(self) -> Path:
        """The socket of the embedded Redis."""
        return self.data_dir / "redis" / "redis.sock"

    @property
    def redis_url(self) -> str:
        """For redis-py, django-redis and channels_redis (`unix://` for a socket)."""
        return self.redis_url_given or f"unix://{quote(str(self.redis_socket))}"

    @property
    def broker_url(self) -> str:
        """For Celery (kombu writes a socket as `redis+socket://`)."""
        return "redis+socket://" + self.redis_url.removeprefix("unix://") if self.redis_url.startswith("unix://") else self.redis_url

    @property
    def is_loopback(self) -> bool:
        """Whether the web server is reachable from this machine only."""
        return self.host in LOOPBACK

    @property
    def display_host(self) -> str:
        """The host for a URL that a person opens: 127.0.0.1 for a wildcard."""
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::", ""} else self.host  # noqa: S104
        return f"[{host}]" if ":" in host else host


def read(environ: Mapping[str, str] | None = None) -> Environment:
    """Read the environment (os.environ when not given). Raises BadSetting, which names the variable."""
    env = Reader(os.environ if environ is None else environ)
    host = env.text("HOST", "127.0.0.1")
    embedded = env.boolean("EMBEDDED", default=False)
    max_workers = env.integer("MAX_WORKERS", max(4, os.cpu_count() or 1), minimum=1, maximum=MAX_WORKERS_LIMIT)
    result = Environment(
        host=host,
        port=env.integer("PORT", 8000, minimum=1, maximum=65535),
        data_dir=(BASE_DIR / Path(env.text("DATA_DIR", "var")).expanduser()).resolve(),
        database_url=_url(env, "DATABASE_URL", ("postgres", "postgresql")),
        redis_url_given=_url(env, "REDIS_URL", ("redis", "rediss", "unix")),
        max_workers=max_workers,
        worker_processes=env.integer("WORKER_PROCESSES", max_workers, minimum=1, maximum=MAX_WORKERS_LIMIT),
        max_concurrent_users=env.integer("MAX_CONCURRENT_USERS", 3, minimum=1),
        user_slot_max_seconds=env.number("USER_SLOT_MAX_SECONDS", 3600, minimum=0),
        no_progress_seconds=env.number("NO_PROGRESS_SECONDS", 1800, minimum=10),
        event_retention_days=env.integer("EVENT_RETENTION_DAYS", 365, minimum=0, maximum=36_500),
        rate_limit_capacity=env.integer("RATE_LIMIT_CAPACITY", 10, minimum=0, maximum=1_000_000),
        rate_limit_refill_per_second=env.number("RATE_LIMIT_REFILL_PER_SECOND", 1, minimum=0, exclusive=True),
        simulated_seconds_per_tile=env.optional_number("SIMULATED_SECONDS_PER_TILE", minimum=0),
        max_upload_bytes=env.integer("MAX_UPLOAD_BYTES", 64 * 2**30, minimum=1),
        gpu_worker=None if env.text("GPU_WORKER", "auto") == "auto" else env.boolean("GPU_WORKER", default=False),
        torch_device=_torch_device(env.text("TORCH_DEVICE", "auto")),
        slide_roots=_slide_roots(env.text("SLIDE_ROOTS", "")),
        trust_user_header=env.boolean("TRUST_USER_HEADER", default=embedded and host in LOOPBACK),
        demo=env.boolean("DEMO", default=embedded),
        secret_key=env.optional("SECRET_KEY"),
        debug=env.boolean("DEBUG", default=False),
        allowed_hosts=env.names("ALLOWED_HOSTS", _default_hosts(host)),
        csrf_trusted_origins=env.names("CSRF_TRUSTED_ORIGINS", ()),
        log_json=env.boolean("LOG_JSON", default=False),
        https=env.boolean("HTTPS", default=not embedded and not env.boolean("DEBUG", default=False)),
        embedded=embedded,
    )
    _check_together(result)
    return result


def _url(env: Reader, name: str, schemes: tuple[str, ...]) -> str | None:
    value = env.optional(name)
    if value is None:
        return None
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018  (raises for what is no port)
    except ValueError as error:
        raise BadSetting(name, value, str(error)) from None
    if parts.scheme not in schemes:
        raise BadSetting(name, value, f"must start with {' or '.join(s + '://' for s in schemes)}")
    return value


def _torch_device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,2})?", value):
        raise BadSetting("TORCH_DEVICE", value, "must be auto, cpu, cuda or cuda:N")
    return value


def _slide_roots(value: str) -> tuple[SlideRoot, ...]:
    """The roots in `name=/absolute/path[:group+group];…`. Whether a share is mounted is looked at when it is used, not here."""
    try:
        roots = tuple(_slide_root(entry.strip()) for entry in value.split(";") if entry.strip())
    except ValueError as error:
        raise BadSetting("SLIDE_ROOTS", value, str(error)) from None
    for name, count in Counter(root.name for root in roots).items():
        if count > 1:
            raise BadSetting("SLIDE_ROOTS", value, f"names {name} twice")
    return roots


def _slide_root(entry: str) -> SlideRoot:
    """One root. Raises ValueError."""
    name, is_named, rest = entry.partition("=")
    path, has_groups, groups = rest.partition(":")
    if not is_named or not _ROOT_NAME.fullmatch(name):
        raise ValueError(f"{entry!r} must be name=/absolute/path or name=/absolute/path:group+group, the name of A-Z a-z 0-9 . _ -")
    if name == DEFAULT_ROOT:
        raise ValueError(f"{name} is the name of DATA_DIR/slides")
    if not path.startswith("/") or not path.isprintable() or ".." in Path(path).parts:
        raise ValueError(f"the path of {name} must be absolute, without .. parts")
    allowed = tuple(group.strip() for group in groups.split("+")) if has_groups else ()
    if not all(allowed):
        raise ValueError(f"{name} names an empty group; leave out the colon to let in every user")
    return SlideRoot(name=name, path=Path(path), groups=allowed)


def _default_hosts(host: str) -> tuple[str, ...]:
    # As a browser names it: an IPv6 address in brackets.
    named = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return tuple(dict.fromkeys([named, "localhost", "127.0.0.1", "[::1]"]))


def _check_together(env: Environment) -> None:
    socket = str(env.redis_socket)
    if env.redis_url_given is None and len(os.fsencode(socket)) > MAX_SOCKET_PATH_BYTES:
        raise BadSetting(
            "DATA_DIR", str(env.data_dir), f"is too long for the embedded Redis ({socket} exceeds {MAX_SOCKET_PATH_BYTES} bytes)"
        )
    for root in env.slide_roots:
        if root.path.is_relative_to(env.data_dir) or env.data_dir.is_relative_to(root.path):
            raise BadSetting("SLIDE_ROOTS", str(root.path), f"must neither lie in DATA_DIR ({env.data_dir}) nor hold it")
    for name in env.allowed_hosts:
        if name == "*" and not env.debug:
            raise BadSetting("ALLOWED_HOSTS", name, "must list the names of this server (* is for DEBUG=1 alone)")
        if name != "*" and not _HOST_NAME.fullmatch(name):
            raise BadSetting("ALLOWED_HOSTS", name, "must be host names without scheme, port or path, such as slides.example.org")
    for origin in env.csrf_trusted_origins:
        if "://" not in origin:
            raise BadSetting("CSRF_TRUSTED_ORIGINS", origin, "must be origins such as https://slides.example.org")

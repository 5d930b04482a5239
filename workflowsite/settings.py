"""Django's settings, derived from the environment (`env.py`). Wiring only: no rule of the product is written here."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

import dj_database_url
import django_stubs_ext
from csp.constants import NONE, SELF
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from scheduling import __version__, env
from scheduling.states import JobState, WorkflowStatus

django_stubs_ext.monkeypatch()

BASE_DIR = env.BASE_DIR
ENV = env.read()
DATA_DIR = ENV.data_dir


def _secret_key(data_dir: Path) -> str:
    """The key given, or one made once and kept in DATA_DIR; the first of two starting processes wins."""
    file = data_dir / "secret_key"
    data_dir.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        temporary = file.with_name(f".secret_key.{os.getpid()}.{secrets.token_hex(4)}")
        temporary.touch(mode=0o600)
        temporary.write_text(secrets.token_urlsafe(64))
        with suppress(FileExistsError):  # another process was first; its key is the one
            os.link(temporary, file)
        temporary.unlink()
    return file.read_text()


def _kept_secret_key(data_dir: Path) -> str:
    try:
        return _secret_key(data_dir)
    except OSError as error:
        raise env.BadSetting("DATA_DIR", str(data_dir), f"cannot be written: {error.strerror or error}") from error


def _database(url: str | None, data_dir: Path) -> dict[str, Any]:
    if url is None:
        options = {
            "timeout": 15,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON",
        }
        # Tests use a file too: SQLite in memory locks tables, not the database, and does not wait.
        test = {"NAME": str(data_dir / "test.sqlite3")}
        kept = {"CONN_MAX_AGE": None}  # opening a file anew for each request costs as much as a short request
        return {"ENGINE": "workflowsite.sqlite", "NAME": str(data_dir / "db.sqlite3"), "OPTIONS": options, "TEST": test, **kept}
    database: dict[str, Any] = {**dj_database_url.parse(url)}
    database["OPTIONS"] = {**(database.get("OPTIONS") or {}), "pool": {"min_size": 1, "max_size": 16, "timeout": 10}}
    return database


SECRET_KEY = ENV.secret_key or _kept_secret_key(DATA_DIR)
DEBUG = ENV.debug
ALLOWED_HOSTS = list(ENV.allowed_hosts)
CSRF_TRUSTED_ORIGINS = list(ENV.csrf_trusted_origins)

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "csp",
    "rest_framework",
    "rest_framework.authtoken",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "scheduling",
    "dashboard",
]

MIDDLEWARE = [
    "scheduling.api.middleware.HostMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "scheduling.api.middleware.DatabaseBusyMiddleware",
]

ROOT_URLCONF = "workflowsite.urls"
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "dashboard.context.shell",
            ],
        },
    },
]

DATABASES = {"default": _database(ENV.database_url, DATA_DIR)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": ENV.redis_url,
        "OPTIONS": {
            "SOCKET_CONNECT_TIMEOUT": 1,
            "SOCKET_TIMEOUT": 1,
            # A connection that Redis closed is opened again once; redis-py's own patience (seconds of backoff) would hold up requests.
            "CONNECTION_POOL_KWARGS": {"retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))},
        },
    }
}
CHANNEL_LAYERS = {
    "default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [ENV.redis_url], "prefix": "live"}}
}

AUTH_USER_MODEL = "scheduling.User"
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend", "scheduling.api.authentication.HeaderBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator", "NumericPasswordValidator")
]
LOGIN_URL = "/ui/login"
LOGIN_REDIRECT_URL = "/ui"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": DATA_DIR / "uploads"}},
    "staticfiles": {"BACKEND": "workflowsite.static.ModuleManifestStorage"},
}
WHITENOISE_USE_FINDERS = DEBUG

# Uploads are streamed into DATA_DIR by the slide service; whatever Django itself buffers stays there as well.
FILE_UPLOAD_TEMP_DIR = str(DATA_DIR / "tmp")
Path(FILE_UPLOAD_TEMP_DIR).mkdir(parents=True, exist_ok=True)
DATA_UPLOAD_MAX_MEMORY_SIZE = 2**20
# The panel sends four fields for each of at most a thousand jobs.
DATA_UPLOAD_MAX_NUMBER_FIELDS = 5_000

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "scheduling.api.authentication.HeaderAuthentication",
        "rest_framework.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_PAGINATION_CLASS": "scheduling.api.pagination.NewestFirst",
    "EXCEPTION_HANDLER": "scheduling.api.exceptions.handle",
    "DATETIME_FORMAT": "%Y-%m-%dT%H:%M:%S.%fZ",
    "PAGE_SIZE": 50,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Whole-slide workflow scheduler",
    "DESCRIPTION": "Submit workflows of branches of jobs over whole-slide images and follow them tile by tile.",
    "VERSION": __version__,
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "",
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "persistAuthorization": True, "tryItOutEnabled": True, "validatorUrl": None},
    "ENUM_NAME_OVERRIDES": {
        "WorkflowStatus": [status.value for status in WorkflowStatus],
        "JobState": [state.value for state in JobState],
    },
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "scheduling.api.openapi.add_summaries"],
    "SORT_OPERATIONS": False,
}

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:", "blob:"],
        "connect-src": [SELF],
        "font-src": [SELF],
        "worker-src": [SELF],
        "manifest-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "object-src": [NONE],
        "frame-ancestors": [NONE],
    }
}

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = ENV.https
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if ENV.https else None
SECURE_HSTS_SECONDS = 31_536_000 if ENV.https else 0
# Whether subdomains follow and whether browsers preload it is the domain owner's decision, not this product's.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    # Whoever answers 503 has logged why; Django would add an ERROR for each time that /readyz is asked during a start.
    "filters": {"not_503": {"()": "django.utils.log.CallbackFilter", "callback": lambda record: getattr(record, "status_code", 0) != 503}},
    "formatters": {
        "plain": {"format": "{asctime} {levelname:<7} {name}: {message}", "style": "{"},
        "json": {"()": "pythonjsonlogger.json.JsonFormatter", "fmt": "{asctime}{levelname}{name}{message}", "style": "{"},
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "json" if ENV.log_json else "plain"}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        "django.request": {"filters": ["not_503"]},
        "django.server": {"level": "WARNING"},
        "django.channels.server": {"level": "WARNING"},
        "daphne": {"level": "WARNING"},
    },
}

"""System checks of wrong combinations of settings. A bad value of a single setting stops the start before these run."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

SQLITE_MINIMUM = (3, 35)


@register(Tags.security)
def check_allowed_hosts(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Any host name would let a foreign page reach a server on this machine through its own name."""
    if settings.DEBUG or "*" not in settings.ALLOWED_HOSTS:
        return []
    return [Error("ALLOWED_HOSTS must not contain * outside DEBUG.", hint="List the names of this server.", id="scheduling.E001")]


@register(Tags.database)
def check_sqlite(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Partial indexes, upserts and RETURNING need a SQLite of 2021 or later."""
    if settings.ENV.database_url is not None or sqlite3.sqlite_version_info >= SQLITE_MINIMUM:
        return []
    needed = ".".join(map(str, SQLITE_MINIMUM))
    return [Error(f"SQLite {sqlite3.sqlite_version} is too old; {needed} is needed.", hint="Or set DATABASE_URL.", id="scheduling.E002")]


@register(Tags.security)
def check_trusted_origins(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """An origin of plain http beside HTTPS would let a man in the middle act for a signed-in user."""
    plain = [origin for origin in settings.CSRF_TRUSTED_ORIGINS if origin.startswith("http://")]
    if not settings.ENV.https or not plain:
        return []
    return [Error(f"CSRF_TRUSTED_ORIGINS has origins without TLS: {', '.join(plain)}.", id="scheduling.E003")]


@register(Tags.security, deploy=True)
def check_user_header(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """A trusted header makes everybody who reaches the server whoever they say they are."""
    if not settings.ENV.trust_user_header or settings.ENV.is_loopback:
        return []
    hint = "Only behind a proxy that sets X-User-ID itself and removes the client's."
    return [Warning("TRUST_USER_HEADER is on and HOST is reachable from other machines.", hint=hint, id="scheduling.W001")]


@register(Tags.security, deploy=True)
def check_embedded(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """The embedded processes are for one machine and its user."""
    if not settings.ENV.embedded or settings.ENV.is_loopback:
        return []
    hint = "Run the programs under a process manager behind a proxy with TLS."
    return [Warning("`make run` listens on a HOST that is reachable from other machines.", hint=hint, id="scheduling.W002")]

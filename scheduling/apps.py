"""Application configuration; registers the system checks."""

from __future__ import annotations

from django.apps import AppConfig


class SchedulingConfig(AppConfig):
    """The scheduler's tables, API and admin."""

    name = "scheduling"
    verbose_name = "Scheduling"

    def ready(self) -> None:
        """Register the system checks."""
        from scheduling import checks  # noqa: F401, PLC0415  (needs the app registry)

"""Application configuration of the dashboard."""

from __future__ import annotations

from django.apps import AppConfig


class DashboardConfig(AppConfig):
    """Server-rendered pages and their live socket."""

    name = "dashboard"

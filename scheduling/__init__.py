"""The scheduler: data model, API, engine, job types and the slide library."""

from __future__ import annotations

__version__ = "0.1.0"

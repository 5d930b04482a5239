"""Models that the operator has installed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.conf import settings

from scheduling.instanseg.store import ModelStore


def model_bodies() -> list[dict[str, Any]]:
    """GET /model: by name, of each name the newest first."""
    return [{**asdict(facts), "outputs": list(facts.outputs)} for facts in ModelStore(settings.DATA_DIR).all()]

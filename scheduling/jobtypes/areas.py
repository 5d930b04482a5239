"""The areas that an object may have, as every segmentation asks for them: two parameters, and what must hold between them."""

from __future__ import annotations

from typing import Any

from scheduling.jobtypes.base import JobFailed


def area_limits(*, most_um2: float, what: str) -> dict[str, Any]:
    """JSON schemas of min_area_um2 and max_area_um2, the latter with this default; `what` is dropped beyond it."""
    return {
        "min_area_um2": {
            "type": "number",
            "minimum": 1,
            "maximum": 1000,
            "default": 10,
            "description": "Smaller nuclei are dropped (µm²).",
        },
        "max_area_um2": {
            "type": "number",
            "minimum": 10,
            "maximum": 2000,
            "default": most_um2,
            "description": f"Larger {what} are dropped (µm²).",
        },
    }


def check_areas(parameters: dict[str, Any]) -> None:
    """Raises JobFailed when no area is permitted."""
    if parameters["max_area_um2"] <= parameters["min_area_um2"]:
        raise JobFailed("max_area_um2 must be larger than min_area_um2.")

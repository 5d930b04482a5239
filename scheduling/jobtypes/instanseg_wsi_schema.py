"""JSON schema of the parameters of INSTANSEG_WSI, shown by GET /job-types, and the model that a new job gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scheduling.instanseg.facts import ModelFacts
from scheduling.instanseg.store import ModelStore
from scheduling.jobtypes.areas import area_limits
from scheduling.jobtypes.base import BadParameter

_UNIT_INTERVAL = {"type": ["number", "null"], "minimum": 0, "maximum": 1, "default": None}

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "model": {
            "type": ["string", "null"],
            "maxLength": 64,
            "default": None,
            "description": "Name or SHA-256 of an installed model, as GET /model lists them; null: the only one.",
        },
        "model_sha256": {
            "type": ["string", "null"],
            "pattern": "^[0-9a-f]{64}$",
            "default": None,
            "description": "Set by the server: the model that the job got when it was submitted, and keeps.",
        },
        "backend": {
            "type": "string",
            "enum": ["torch", "openvino"],
            "default": "torch",
            "description": (
                "What computes the model's network on a CPU: torch, or OpenVINO, which takes about half the time where workers have it. "
                "The last bits of their answers differ, so that a pixel at the edge of a nucleus may."
            ),
        },
        "mask_threshold": {
            **_UNIT_INTERVAL,
            "description": "A pixel belongs to a nucleus from this probability on; null: the model's own.",
        },
        "seed_threshold": {
            **_UNIT_INTERVAL,
            "description": "A nucleus begins at a peak of the seed map of at least this height; null: the model's own.",
        },
        "peak_distance": {
            "type": ["integer", "null"],
            "minimum": 1,
            "maximum": 31,
            "default": None,
            "description": "Peaks of the seed map closer than this are one (pixels of the model); null: the model's own.",
        },
        "overlap_threshold": {
            **_UNIT_INTERVAL,
            "description": "Objects that share more than this part of their area are one; null: the model's own.",
        },
        **area_limits(most_um2=1000, what="nuclei"),
        "tile_px": {
            "type": "integer",
            "minimum": 256,
            "maximum": 2048,
            "multipleOf": 8,
            "default": 832,
            "description": (
                "Side of a tile's core at the model's resolution. It reads as much beyond on each side as the model looks, at least 96 pixels: "
                "128, so windows of 1088 pixels, with InstanSeg's own network."
            ),
        },
    },
}


def settled_model(parameters: dict[str, Any], data_dir: Path) -> dict[str, Any]:
    """The parameters with the hash of the model that is meant now, as `model_sha256`, and its name, as `model`.

    Unchanged when none is named and none is installed: planning says so, and what to use instead. Raises BadParameter.
    """
    installed = ModelStore(data_dir).all()
    model, sha256 = parameters.get("model"), parameters.get("model_sha256")
    if model is None and sha256 is None and not installed:
        return parameters
    facts = _meant(installed, sha256 or model)
    if model not in {None, facts.name, facts.sha256}:
        raise BadParameter("model", f"{sha256} is not the hash of {model}, but of {facts.name}.")
    if parameters.get("backend") == "openvino" and not facts.is_fast:
        raise BadParameter("backend", f"OpenVINO cannot compute the model {facts.name}; torch can.")
    return {**parameters, "model": facts.name, "model_sha256": facts.sha256}


def _meant(installed: list[ModelFacts], wanted: str | None) -> ModelFacts:
    """The model of that hash, the newest of that name, or for None the only one."""
    found = [facts for facts in installed if wanted in {None, facts.name, facts.sha256}]
    names = list(dict.fromkeys(facts.name for facts in installed))
    if not found:
        raise BadParameter("model", f"There is no model {wanted} here; {_listed(names)}.")
    if wanted is None and len(names) > 1:
        raise BadParameter("model", f"Name a model; {_listed(names)}.")
    return found[0]


def _listed(names: list[str]) -> str:
    return f"installed: {', '.join(names)}" if names else "none is installed"

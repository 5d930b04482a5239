"""JSON schema of the parameters of SEGMENT_CELLS, shown by GET /job-types."""

from __future__ import annotations

from typing import Any

from scheduling.jobtypes.areas import area_limits

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "threshold_od": {
            "type": ["number", "null"],
            "minimum": 0.02,
            "maximum": 2,
            "default": None,
            "description": "Lowest hematoxylin optical density of a nucleus; null: chosen for the slide by Otsu's method.",
        },
        **area_limits(most_um2=400, what="objects"),
        "min_solidity": {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "default": 0.7,
            "description": "Objects that fill less of their convex hull are dropped: folds, fibres, keratin.",
        },
        "expansion_um": {
            "type": "number",
            "minimum": 0,
            "maximum": 20,
            "default": 0,
            "description": "Whole cells: nuclei grown by this distance (µm) over tissue, at most half way to the next nucleus; 0: nuclei alone.",
        },
        "stain_vectors": {
            "type": "string",
            "enum": ["estimated", "customary"],
            "default": "estimated",
            "description": (
                "Colours of hematoxylin and eosin: estimated from this slide (Macenko), or the customary ones, "
                "which also stand in, with a warning, for an implausible estimate."
            ),
        },
        "tile_px": {
            "type": "integer",
            "minimum": 256,
            "maximum": 4096,
            "default": 1536,
            "description": "Side of a tile's core at analysis resolution (about 0.5 µm per pixel).",
        },
        "halo_px": {
            "type": "integer",
            "minimum": 64,
            "maximum": 512,
            "default": 64,
            "description": "What a tile reads beyond its core on each side, at analysis resolution; more is taken where the sizes of nuclei need it.",
        },
    },
}

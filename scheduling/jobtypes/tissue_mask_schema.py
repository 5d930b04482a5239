"""JSON schema of the parameters of TISSUE_MASK, shown by GET /job-types; defaults by preset come from the presets themselves.

Where the default is null the preset decides: the description says the values, and `x-preset-defaults` has them for forms.
"""

from __future__ import annotations

from typing import Any

from scheduling.slides.tissue.constants import METHODS, PRESETS


def _by_preset(kind: str, description: str, unit: str = "", **limits: float) -> dict[str, dict[str, Any]]:
    """Schema of one parameter, by its name, that is null unless given."""
    name, _, json_type = kind.partition(":")
    values = {preset: getattr(parameters, name) for preset, parameters in PRESETS.items()}
    listed = ", ".join(f"{preset} {value:g}" for preset, value in values.items())
    rule = {
        "type": [json_type, "null"],
        **limits,
        "default": None,
        "description": f"{description}{unit and f' ({unit})'}; null: by the preset ({listed}).",
        "x-preset-defaults": values,
    }
    return {name: rule}


PARAMETERS: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "preset": {
            "type": "string",
            "enum": list(PRESETS),
            "default": "resection",
            "description": "What is on the slide: large pieces, needle or small biopsies, or the cores of a tissue microarray. "
            "Gives the sizes below their values; a size that is stated wins.",
        },
        "method": {
            "type": "string",
            "enum": list(METHODS),
            "default": "saturation",
            "description": "What tells tissue from glass: its colour; its darkness, for stains that hardly have a colour; "
            "or its texture (entropy), against smooth shadows, smears and glue.",
        },
        "threshold": {
            "type": ["number", "null"],
            "minimum": 0,
            "maximum": 255,
            "default": None,
            "description": "A pixel is tissue above this saturation (0 to 255), below this grey level (0 to 255), or above this entropy "
            "(0 to 5 bits); null: chosen for the slide by Otsu's method, within plausible limits.",
        },
        **_by_preset("min_area_mm2:number", "Smaller pieces of tissue are dropped", "mm²", minimum=0, maximum=1000),
        **_by_preset("max_hole_mm2:number", "Smaller holes are filled", "mm²", minimum=0, maximum=1000),
        **_by_preset(
            "min_width_um:number",
            "Pieces that are nowhere this wide are dropped: dust, fibres, the edge of the coverslip",
            "µm",
            minimum=0,
            maximum=2000,
        ),
        **_by_preset("close_um:number", "Gaps up to twice this width are closed", "µm", minimum=0, maximum=400),
        **_by_preset("dilate_um:number", "The mask is grown by this margin", "µm", minimum=0, maximum=400),
        "remove_pen": {
            "type": "boolean",
            "default": True,
            "description": "Marker ink is no tissue: smooth strokes in green, blue, red and orange. Switch it off where a stain is lost to it.",
        },
        "remove_black": {
            "type": "boolean",
            "default": True,
            "description": "Black is no tissue: padding, black ink, folds of the coverslip. Switch it off for silver stains and heavy pigment.",
        },
    },
}

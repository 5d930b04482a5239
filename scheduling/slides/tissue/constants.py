"""How tissue is told from glass: the parameters, and the presets that give them their defaults."""

from __future__ import annotations

from dataclasses import dataclass

METHODS = ("saturation", "grey", "entropy")


@dataclass(frozen=True, kw_only=True)
class TissueParameters:
    """All values in force; the defaults are those of the preset `resection`."""

    preset: str = "resection"
    method: str = "saturation"
    #: Instead of Otsu's choice: saturation 0-255, grey level 0-255, entropy in bits.
    threshold: float | None = None
    min_area_mm2: float = 0.02
    max_hole_mm2: float = 0.02
    min_width_um: float = 100
    close_um: float = 40
    dilate_um: float = 16
    remove_pen: bool = True
    remove_black: bool = True


#: A needle biopsy is small and broken, so pieces of 0.05 mm are kept; the cores of a TMA are whole, and must not grow together.
PRESETS: dict[str, TissueParameters] = {
    "resection": TissueParameters(),
    "biopsy": TissueParameters(preset="biopsy", min_area_mm2=0.002, max_hole_mm2=0.005, min_width_um=40, close_um=24, dilate_um=24),
    "tma": TissueParameters(preset="tma", min_area_mm2=0.05, max_hole_mm2=0.05, min_width_um=120, close_um=32, dilate_um=8),
}

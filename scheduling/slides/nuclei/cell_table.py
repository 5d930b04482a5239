"""The columns of a table of cells: nuclei alone, or nuclei in whole cells. Whoever reads or writes such a table asks here.

A table says by its columns which of the two it is, and by their types how fine its outlines are, so that a tile file needs no other
word of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from scheduling.slides.reading.scale import Scale

STAINS = ("hematoxylin", "eosin")
FIGURES = ("mean", "sum", "sd", "min", "max")
SHAPE = ("area_um2", "perimeter_um", "circularity", "solidity", "major_axis_um", "minor_axis_um")
DENSITIES = tuple(f"{stain}_od_{figure}" for stain in STAINS for figure in FIGURES)
AREA_RATIO = "nucleus_cell_area_ratio"
#: Of outlines: whole full-resolution pixels, and hundredths of them where model pixels are no whole number of those.
WHOLE, HUNDREDTHS = pa.int32(), pa.decimal32(9, 2)


@dataclass(frozen=True)
class CellTable:
    """One kind of table. `depth_px`: how deep in the tile's core the centroid lies, in model pixels; 0 or less in the guard band."""

    #: Columns of numbers, in the order in which they are written everywhere. The centroid is the nucleus's, without one the cell's.
    measures: tuple[str, ...]
    #: Columns of closed rings x0, y0, x1, y1, … along pixel edges, origin at the upper left corner of the slide; the first one is never empty.
    rings: tuple[str, ...]
    #: Of the areas that the summary describes.
    areas: tuple[str, ...]
    #: As QuPath calls such an object, and the class it is given.
    object_type: str
    class_name: str
    color: tuple[int, int, int] = (200, 0, 0)

    @cached_property
    def schema(self) -> pa.Schema:
        """Of a tile file: measures may be null, and a nucleus may be null, only in whole cells."""
        return self._schema(WHOLE)

    def schema_at(self, downsample: Scale) -> pa.Schema:
        """The same for model pixels of so many full-resolution pixels."""
        return self.schema if downsample.denominator == 1 else self._schema(HUNDREDTHS)

    def _schema(self, places: pa.DataType) -> pa.Schema:
        numbers = ((name, pa.float64()) for name in ("depth_px", *self.measures))
        return pa.schema([*numbers, *((name, pa.list_(places)) for name in self.rings)])


_NUCLEUS = ("centroid_x_px", "centroid_y_px", *SHAPE, *DENSITIES)
NUCLEI = CellTable(measures=_NUCLEUS, rings=("polygon",), areas=("area_um2",), object_type="detection", class_name="Nucleus")
CELLS = CellTable(
    measures=(*_NUCLEUS, *(f"cell_{name}" for name in SHAPE), *(f"cytoplasm_{name}" for name in DENSITIES), AREA_RATIO),
    rings=("polygon", "nucleus_polygon"),
    areas=("area_um2", "cell_area_um2"),
    object_type="cell",
    class_name="Cell",
)


def kind_of(cells: pa.Table) -> CellTable:
    """What a table holds, by its columns."""
    return CELLS if set(CELLS.rings) <= set(cells.column_names) else NUCLEI

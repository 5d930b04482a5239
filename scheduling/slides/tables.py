"""Cells as CSV and as Parquet (with outlines, readable as GeoParquet), chunk by chunk."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import IO

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import shapely

from scheduling.slides.cells import MEASURES, outlines_of
from scheduling.slides.measure import polygons

CELL_CLASS = "Nucleus"
_GEO = {
    "version": "1.1.0",
    "primary_column": "geometry",
    "columns": {"geometry": {"encoding": "WKB", "geometry_types": ["Polygon"], "crs": None}},
}
_FLAT = pa.schema([("id", pa.int64()), ("class", pa.string()), *((name, pa.float64()) for name in MEASURES)])
PARQUET_SCHEMA = _FLAT.append(pa.field("geometry", pa.binary())).with_metadata({"geo": orjson.dumps(_GEO)})


def csv_rows(cells: pa.Table, first_id: int, *, header: bool) -> bytes:
    """Rows of the CSV, numbered from `first_id`, with the header line only for the first chunk."""
    sink = io.BytesIO()
    options = pyarrow.csv.WriteOptions(include_header=header, quoting_style="needed")
    pyarrow.csv.write_csv(_numbered(cells, first_id), sink, options)
    return sink.getvalue()


def write_parquet(sink: IO[bytes], chunks: Iterable[pa.Table]) -> None:
    """One row group for each chunk of cells, numbered through from 1; the outline as WKB in full-resolution pixels."""
    first_id = 1
    with pyarrow.parquet.ParquetWriter(sink, PARQUET_SCHEMA, compression="zstd") as writer:
        for cells in chunks:
            if len(cells):
                table = _numbered(cells, first_id).append_column("geometry", _wkb(cells))
                writer.write_table(table.cast(PARQUET_SCHEMA))
                first_id += len(cells)


def _numbered(cells: pa.Table, first_id: int) -> pa.Table:
    ids = pa.array(np.arange(first_id, first_id + len(cells)))
    classes = pa.array([CELL_CLASS] * len(cells), pa.string())
    return pa.table([ids, classes, *(cells[name] for name in MEASURES)], schema=_FLAT)


def _wkb(cells: pa.Table) -> pa.Array:
    return pa.array(shapely.to_wkb(polygons(outlines_of(cells))), pa.binary())

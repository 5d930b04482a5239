"""Cells as CSV and as Parquet (with outlines, readable as GeoParquet), chunk by chunk."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numba import njit

from scheduling.slides.nuclei.cell_table import CellTable, kind_of
from scheduling.slides.nuclei.cells import outlines_of
from scheduling.slides.nuclei.contours import Ints

Bytes = npt.NDArray[np.uint8]

#: Byte order, type (Polygon), number of rings.
_WKB_HEAD = struct.pack("<BII", 1, 3, 1)
#: The columns of outlines in the Parquet file, by those of the table.
_GEOMETRIES = {"polygon": "geometry", "nucleus_polygon": "nucleus_geometry"}


def csv_rows(cells: pa.Table, first_id: int, *, header: bool) -> bytes:
    """Rows of the CSV, numbered from `first_id`, with the header line only for the first chunk; what was not measured is empty."""
    sink = io.BytesIO()
    options = pyarrow.csv.WriteOptions(include_header=header, quoting_style="needed")
    pyarrow.csv.write_csv(_numbered(cells, first_id), sink, options)
    return sink.getvalue()


def write_parquet(sink: IO[bytes], chunks: Iterable[pa.Table], kind: CellTable) -> None:
    """One row group for each chunk of cells, numbered through from 1; outlines as WKB in full-resolution pixels."""
    first_id, schema = 1, parquet_schema(kind)
    # A dictionary of numbers that hardly repeat makes the file larger and takes a third of the time.
    with pyarrow.parquet.ParquetWriter(sink, schema, compression="zstd", use_dictionary=["class"]) as writer:
        for cells in chunks:
            if len(cells):
                table = _numbered(cells, first_id)
                for name in kind.rings:
                    table = table.append_column(_GEOMETRIES[name], _wkb(cells, name))
                writer.write_table(table.cast(schema))
                first_id += len(cells)


def parquet_schema(kind: CellTable) -> pa.Schema:
    """Of cells.parquet, with the metadata of GeoParquet 1.1; the outline is the primary geometry."""
    names = [_GEOMETRIES[name] for name in kind.rings]
    column: dict[str, Any] = {"encoding": "WKB", "geometry_types": ["Polygon"], "crs": None}
    geo = {"version": "1.1.0", "primary_column": names[0], "columns": dict.fromkeys(names, column)}
    schema = _flat(kind)
    for name in names:
        schema = schema.append(pa.field(name, pa.binary()))
    return schema.with_metadata({"geo": orjson.dumps(geo)})


def _flat(kind: CellTable) -> pa.Schema:
    return pa.schema([("id", pa.int64()), ("class", pa.string()), *((name, pa.float64()) for name in kind.measures)])


def _numbered(cells: pa.Table, first_id: int) -> pa.Table:
    kind = kind_of(cells)
    ids = pa.array(np.arange(first_id, first_id + len(cells)))
    classes = pa.array([kind.class_name] * len(cells), pa.string())
    return pa.table([ids, classes, *(cells[name] for name in kind.measures)], schema=_flat(kind))


def _wkb(cells: pa.Table, name: str) -> pa.Array:
    """Polygons of one ring as little-endian WKB; null for a ring without a vertex."""
    rings = outlines_of(cells, name)
    sizes = np.diff(rings.offsets)
    offsets = np.concatenate([[0], np.cumsum(np.where(sizes > 0, len(_WKB_HEAD) + 4 + 16 * sizes, 0))])
    points = rings.points / 10**rings.decimals if rings.decimals else rings.points
    coordinates = points.astype("<f8").view(np.uint8).reshape(-1)
    data = _joined_wkb(coordinates, rings.offsets, np.frombuffer(_WKB_HEAD, np.uint8), offsets)
    valid = None if sizes.all() else pa.array(sizes > 0).buffers()[1]
    return pa.BinaryArray.from_buffers(pa.binary(), len(rings), [valid, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data)])


@njit(cache=True)
def _joined_wkb(coordinates: Bytes, rings: Ints, head: Bytes, offsets: Ints) -> Bytes:
    """Of each ring the head, its number of vertices, and their coordinates, 16 bytes each."""
    out = np.empty(offsets[-1], np.uint8)
    for ring in range(len(offsets) - 1):
        if offsets[ring + 1] > offsets[ring]:
            at = offsets[ring] + len(head)
            out[offsets[ring] : at] = head
            for byte in range(4):
                out[at + byte] = (rings[ring + 1] - rings[ring]) >> (8 * byte) & 255
            out[at + 4 : offsets[ring + 1]] = coordinates[16 * rings[ring] : 16 * rings[ring + 1]]
    return out

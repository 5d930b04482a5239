"""Writes cells and tissue for other programs: GeoJSON for QuPath, Parquet and CSV for pandas.

Tables of cells enter, bytes leave, the same bytes for the same cells.
"""

"""What a viewer of cells is given: vector tiles, pictures of the whole slide, densities, and the memory that keeps them.

Tables of cells enter, bytes for a browser leave. Nothing here opens a slide, asks a database, or knows which job the cells are of.
"""

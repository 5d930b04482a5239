"""Finds nuclei and the cells around them in a window of pixels, measures them, and decides which tile an object belongs to.

Pixels and stain vectors enter, tables of cells leave. Every window that sees an object describes it alike, on which the seams rest.
"""

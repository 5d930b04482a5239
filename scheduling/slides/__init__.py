"""A plain library for whole slides: reading, tissue, nuclei, areas, export, and a synthetic slide to try them on.

Files and arrays enter, arrays and tables leave. Nothing here knows a job, a queue or Django.
"""

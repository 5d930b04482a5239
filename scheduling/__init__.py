"""The scheduler: data model, API, engine, job types and the slide library."""

__version__ = "0.1.0"

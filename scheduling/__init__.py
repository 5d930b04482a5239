"""The scheduler: data model, API, engine, job types and the slide library."""

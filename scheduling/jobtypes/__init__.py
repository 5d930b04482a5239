"""The job types: one class a file beside its schema, what they share, and the registry that knows them by name.

A job's specification and tiles enter, payloads of tiles and steps that write artifacts leave. Runs on workers: no Django, no queue.
"""

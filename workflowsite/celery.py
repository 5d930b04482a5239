"""The Celery application under the name that Django projects give it: `celery -A workflowsite.celery worker`."""

from __future__ import annotations

from scheduling.worker.app import app

__all__ = ["app"]

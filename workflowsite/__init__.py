"""Wiring of the site: settings, URLs, ASGI, Celery. No rules live here."""

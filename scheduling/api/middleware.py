"""A database that stays locked answers 503 on pages as well; inside the API the exception handler does it."""

from __future__ import annotations

import logging

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

from scheduling.api.exceptions import busy_response

logger = logging.getLogger(__name__)


class DatabaseBusyMiddleware(MiddlewareMixin):
    """Turns the database's refusals raised by a view into 503 with Retry-After."""

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """The answer for a database error; None for anything else."""
        if not isinstance(error, (OperationalError, InterfaceError)):
            return None
        logger.warning("the database did not answer: %s", error, extra={"action": "database_busy"})
        return busy_response(request)

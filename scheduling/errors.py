"""What the domain refuses. One root; a class docstring is its default message. The API turns each into one status."""

from __future__ import annotations


class SchedulingError(Exception):
    """The request cannot be carried out."""

    def __init__(self, message: str | None = None, *, field: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        #: The field of the request that is wrong, if one is; dotted and indexed as in "jobs[2].slide".
        self.field = field
        super().__init__(self.message)


class Invalid(SchedulingError):
    """The input is not valid."""


class NotFound(SchedulingError):
    """Not found."""


class NotYet(NotFound):
    """It is not there yet."""


class PermissionRefused(SchedulingError):
    """This account cannot be used in this way."""


class Conflict(SchedulingError):
    """The object's present state does not allow this."""


class KeyReused(SchedulingError):
    """This Idempotency-Key was used with another body."""


class TooLarge(SchedulingError):
    """The upload is larger than this server accepts."""


class UnreadableSlide(Invalid):
    """The file is not a slide that can be read."""

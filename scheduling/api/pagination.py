"""Pages by cursor, newest first: a page never repeats or skips what was there when the first page was read."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rest_framework import exceptions
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request

MAX_KEY = 2**63


class NewestFirst(CursorPagination):
    """Pages of things with an ascending integer key."""

    page_size = 50
    ordering: Any = ("-id",)
    invalid_cursor_message = "This is no cursor of this list."

    def decode_cursor(self, request: Request) -> Cursor | None:
        """The cursor of the request. Raises ValidationError for one that this list never gave out."""
        refused = exceptions.ValidationError({"cursor": [self.invalid_cursor_message]})
        try:
            cursor = super().decode_cursor(request)
        except exceptions.NotFound:
            raise refused from None
        if cursor is not None and cursor.position is not None and not self.is_position(str(cursor.position)):
            raise refused
        return cursor

    def is_position(self, text: str) -> bool:
        """Whether the text can be a value of the first ordering field."""
        return text.isascii() and text.isdigit() and len(text) < 20 and int(text) < MAX_KEY


class NewestFirstByTime(NewestFirst):
    """Pages of things ordered by their time of creation."""

    ordering: Any = ("-created_at", "-id")

    def is_position(self, text: str) -> bool:
        """Whether the text is a time with its zone."""
        try:
            return datetime.fromisoformat(text).tzinfo is not None
        except ValueError:
            return False

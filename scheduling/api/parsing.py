"""Reading of request bodies: JSON in one strict pass, slides straight to the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import IO, Any

import orjson
from django.conf import settings
from django.core.files.uploadhandler import FileUploadHandler
from django.http import HttpRequest
from django.http.request import UnreadablePostError
from rest_framework import exceptions, renderers
from rest_framework.parsers import BaseParser

from scheduling.api.exceptions import BodyTooLarge
from scheduling.errors import Invalid, TooLarge
from scheduling.services.slides import Incoming

MAX_BODY_BYTES = 2**20
MAX_DEPTH = 32
#: What multipart adds to the file: boundaries and headers.
_ENVELOPE_BYTES = 2**16


class StrictJSONParser(BaseParser):
    """JSON of at most 1 MiB: UTF-8, no NaN, no lone surrogates, nested at most 32 deep."""

    media_type = "application/json"
    renderer_class = renderers.JSONRenderer

    def parse(self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        """The value. Raises ParseError, BodyTooLarge. Leaves the SHA-256 of the bytes as `body_sha256` on the request."""
        request = (parser_context or {})["request"]
        raw = _read(stream, int(request.META.get("CONTENT_LENGTH") or 0))
        request.body_sha256 = hashlib.sha256(raw).hexdigest()
        try:
            data = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise exceptions.ParseError(f"The body is no valid JSON: {error}") from None
        if _is_deeper(data, MAX_DEPTH):
            raise exceptions.ParseError(f"The body is nested deeper than {MAX_DEPTH} levels.")
        return data


def _read(stream: IO[Any], length: int) -> bytes:
    """At most MAX_BODY_BYTES; what is longer is not read to its end."""
    if length > MAX_BODY_BYTES:
        raise BodyTooLarge
    try:
        raw = bytes(stream.read(MAX_BODY_BYTES + 1))
    except UnreadablePostError as error:
        raise exceptions.ParseError("The body ended early.") from error
    if len(raw) > MAX_BODY_BYTES:
        raise BodyTooLarge
    return raw


def _is_deeper(data: Any, limit: int) -> bool:
    level = [data]
    for _ in range(limit):
        level = [child for value in level for child in _children(value)]
        if not level:
            return False
    return True


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


class SlideUploadHandler(FileUploadHandler):
    """Writes the one file of the field `file` to where the slide service keeps uploads on their way, counting its bytes."""

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(request)
        self.incoming: Incoming | None = None

    def handle_raw_input(
        self, input_data: IO[bytes], META: dict[str, str], content_length: int, boundary: str, encoding: str | None = None
    ) -> None:
        """Refuse what is announced as too large before reading it."""
        if content_length > settings.ENV.max_upload_bytes + _ENVELOPE_BYTES:
            raise TooLarge

    def new_file(self, field_name: str, *args: Any, **kwargs: Any) -> None:
        """Begin the file. Raises Invalid for another field or a second file."""
        super().new_file(field_name, *args, **kwargs)
        if field_name != "file":
            raise Invalid("Unknown key.", field=field_name)
        if self.incoming is not None:
            raise Invalid("One file at a time.", field="file")
        self.incoming = Incoming(self.file_name or "")

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        """Write. Raises TooLarge."""
        assert self.incoming is not None
        self.incoming.write(raw_data)

    def file_complete(self, file_size: int) -> None:
        """The view takes `incoming`; nothing goes among the request's files."""

    def discard(self) -> None:
        """Remove what was written and not kept."""
        if self.incoming is not None:
            self.incoming.__exit__(None, None, None)

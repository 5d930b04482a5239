"""Reading of request bodies: JSON and GeoJSON in one strict pass, slides straight to the disk."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Any, ClassVar

import orjson
from django.conf import settings
from django.core.files.uploadhandler import FileUploadHandler
from django.http.request import UnreadablePostError
from rest_framework import exceptions, renderers
from rest_framework.parsers import BaseParser

from scheduling.api.exceptions import BodyTooLarge
from scheduling.errors import Invalid, TooLarge
from scheduling.services.slides import Incoming
from scheduling.slides.areas.annotation import MAX_DRAWN_VERTICES

MAX_BODY_BYTES = 2**20
MAX_GEOJSON_BYTES = 16 * 2**20
_GZIP = b"\x1f\x8b"
MAX_DEPTH = 32
#: What multipart adds to the file: boundaries and headers.
_ENVELOPE_BYTES = 2**16


class StrictJSONParser(BaseParser):
    """JSON of at most 1 MiB: UTF-8, no NaN, no lone surrogates, nested at most 32 deep."""

    media_type = "application/json"
    renderer_class = renderers.JSONRenderer
    max_bytes: ClassVar[int] = MAX_BODY_BYTES

    def parse(self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        """The value. Raises ParseError, BodyTooLarge. Leaves the SHA-256 of the bytes as `body_sha256` on the request."""
        request = (parser_context or {})["request"]
        raw = _read(stream, int(request.META.get("CONTENT_LENGTH") or 0), self.max_bytes)
        request.body_sha256 = hashlib.sha256(raw).hexdigest()
        return self.value(raw)

    def value(self, raw: bytes) -> Any:
        """What the bytes say. Raises ParseError."""
        try:
            data = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise exceptions.ParseError(f"The body is no valid JSON: {error}") from None
        if _is_deeper(data, MAX_DEPTH):
            raise exceptions.ParseError(f"The body is nested deeper than {MAX_DEPTH} levels.")
        return data


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """GeoJSON as it was sent, and what it says."""

    raw: bytes
    data: Any


class GeoJSONParser(StrictJSONParser):
    """As StrictJSONParser, for GeoJSON of at most 16 MiB, also gzipped; gives a Drawn."""

    media_type = "application/geo+json"
    max_bytes: ClassVar[int] = MAX_GEOJSON_BYTES

    def value(self, raw: bytes) -> Drawn:
        """The text and its value. Raises ParseError, BodyTooLarge."""
        text = _unzipped(raw, self.max_bytes) if raw.startswith(_GZIP) else raw
        # Each position is a list of some 200 bytes in memory: counted before they are made.
        if text.count(b"[") > 2 * MAX_DRAWN_VERTICES:
            raise exceptions.ParseError(f"There are more than {MAX_DRAWN_VERTICES:,} vertices; simplify the outlines.")
        return Drawn(raw=text, data=super().value(text))


class PlainGeoJSONParser(GeoJSONParser):
    """The same under the name that most programs send."""

    media_type = "application/json"


class ZippedGeoJSONParser(GeoJSONParser):
    """The same under the name of what is around it."""

    media_type = "application/gzip"


def _unzipped(raw: bytes, limit: int) -> bytes:
    """All members of a gzip file; reading ends where it becomes too long. Raises ParseError, BodyTooLarge."""
    try:
        with gzip.open(BytesIO(raw)) as file:
            text = file.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise exceptions.ParseError(f"The body is no whole gzip file: {error}") from None
    if len(text) > limit:
        raise BodyTooLarge
    return text


def _read(stream: IO[Any], length: int, limit: int) -> bytes:
    """At most `limit` bytes; what is longer is not read to its end."""
    if length > limit:
        raise BodyTooLarge
    try:
        raw = bytes(stream.read(limit + 1))
    except UnreadablePostError as error:
        raise exceptions.ParseError("The body ended early.") from error
    if len(raw) > limit:
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


class OneFileHandler(FileUploadHandler):
    """Takes the one file of the field `file` as it comes in; nothing goes among the request's files."""

    has_begun = False

    def most_bytes(self) -> int:
        """The longest file that is taken."""
        raise NotImplementedError

    def begin(self, name: str) -> None:
        """The file begins; `name` is what the client called it."""
        raise NotImplementedError

    def handle_raw_input(
        self, input_data: IO[bytes], META: dict[str, str], content_length: int, boundary: str, encoding: str | None = None
    ) -> None:
        """Refuse what is announced as too large before reading it."""
        if content_length > self.most_bytes() + _ENVELOPE_BYTES:
            raise TooLarge

    def new_file(self, field_name: str, *args: Any, **kwargs: Any) -> None:
        """Begin the file. Raises Invalid for another field or a second file."""
        super().new_file(field_name, *args, **kwargs)
        if field_name != "file":
            raise Invalid("Unknown key.", field=field_name)
        if self.has_begun:
            raise Invalid("One file at a time.", field="file")
        self.has_begun = True
        self.begin(self.file_name or "")

    def file_complete(self, file_size: int) -> None:
        """The view takes it from here."""


def refuse_fields(form: Mapping[str, Any]) -> None:
    """A form of one file has no other fields than its CSRF token. Raises Invalid."""
    for key in form:
        if key != "csrfmiddlewaretoken":
            raise Invalid("Unknown key." if key != "file" else "Must be a file.", field=key)


class SlideUploadHandler(OneFileHandler):
    """Writes the file to where the slide service keeps uploads on their way, counting its bytes."""

    incoming: Incoming | None = None

    def most_bytes(self) -> int:
        """As the operator has set it."""
        return int(settings.ENV.max_upload_bytes)

    def begin(self, name: str) -> None:
        """Make the file on the disk."""
        self.incoming = Incoming(name)

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        """Write. Raises TooLarge."""
        assert self.incoming is not None
        self.incoming.write(raw_data)

    def discard(self) -> None:
        """Remove what was written and not kept."""
        if self.incoming is not None:
            self.incoming.__exit__(None, None, None)


class GeoJSONUploadHandler(OneFileHandler):
    """Holds the file in memory: an annotation is no longer than the body of one."""

    raw: bytearray | None = None
    #: What the client called the file.
    name = ""

    def most_bytes(self) -> int:
        """As of a body."""
        return MAX_GEOJSON_BYTES

    def begin(self, name: str) -> None:
        """Make room."""
        self.raw, self.name = bytearray(), name

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        """Append. Raises TooLarge."""
        assert self.raw is not None
        self.raw += raw_data
        if len(self.raw) > MAX_GEOJSON_BYTES:
            raise TooLarge

    def drawn(self) -> Drawn:
        """The file read. Raises Invalid when there was none, ParseError, BodyTooLarge."""
        if self.raw is None:
            raise Invalid("A file is needed.", field="file")
        return PlainGeoJSONParser().value(bytes(self.raw))

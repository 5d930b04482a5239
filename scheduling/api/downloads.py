"""Files as responses: one range, strong ETag, chunk by chunk. Never holds a whole file in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.utils.cache import get_conditional_response
from django.utils.http import http_date, parse_http_date_safe

from scheduling.errors import NotFound

CHUNK_BYTES = 256 * 1024
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})\Z")
_TYPES = {
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".geojson": "application/geo+json",
    ".csv": "text/csv; charset=utf-8",
    ".parquet": "application/vnd.apache.parquet",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
}


def content_type(name: str) -> str:
    """The media type of an artifact, by its name."""
    return _TYPES.get(Path(name).suffix.lower(), "application/octet-stream")


class FileWindow:
    """Bytes `start` to `stop` of an open file, in chunks. Closing it while a chunk is being read is safe."""

    def __init__(self, file: BinaryIO, start: int, stop: int) -> None:
        self._file = file
        self._left = stop - start
        file.seek(start)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = self._file.read(min(CHUNK_BYTES, self._left)) if self._left > 0 else b""
        if not chunk:
            raise StopIteration
        self._left -= len(chunk)
        return chunk

    def close(self) -> None:
        """Release the file."""
        self._file.close()


def file_response(request: HttpRequest, path: Path, *, name: str, sha256: str) -> HttpResponseBase:
    """The file, a range of it (206, 416), or 304. Raises NotFound when it has gone."""
    try:
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound from None
    stat = path.stat()
    etag = f'"{sha256}"' if sha256 else f'"{stat.st_size:x}-{stat.st_mtime_ns:x}"'
    unchanged = get_conditional_response(request, etag=etag, last_modified=int(stat.st_mtime))
    if unchanged is not None and unchanged.status_code == 412:
        unchanged = JsonResponse({"detail": "The file is not the one that If-Match or If-Unmodified-Since names."}, status=412)
    response = _without_body(file, unchanged) if unchanged is not None else _body(request, file, stat.st_size, etag, int(stat.st_mtime))
    response["ETag"] = etag
    response["Last-Modified"] = http_date(stat.st_mtime)
    response["Accept-Ranges"] = "bytes"
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "private, no-cache"
    if response.status_code in {200, 206}:
        response["Content-Type"] = content_type(name)
        response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _without_body(file: BinaryIO, response: HttpResponseBase) -> HttpResponseBase:
    file.close()
    return response


def _body(request: HttpRequest, file: BinaryIO, size: int, etag: str, modified_s: int) -> HttpResponseBase:
    asked = _asked_range(request, etag, modified_s)
    start, stop = _window(asked, size) if asked else (0, size)
    if asked and start >= stop:
        return _without_body(
            file, JsonResponse({"detail": "The range is outside the file."}, status=416, headers={"Content-Range": f"bytes */{size}"})
        )
    if request.method == "HEAD":
        return _without_body(file, HttpResponse(headers={"Content-Length": str(size)}))
    response = StreamingHttpResponse(FileWindow(file, start, stop), status=206 if asked else 200)
    response["Content-Length"] = str(stop - start)
    if asked:
        response["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return response


def _asked_range(request: HttpRequest, etag: str, modified_s: int) -> tuple[str, str] | None:
    """The one range asked for; None when there is none, when it is malformed or several, or when the file has changed since."""
    found = _RANGE.match(request.headers.get("Range", "").replace(" ", ""))
    if request.method != "GET" or found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if first and last and int(last) < int(first):
        return None
    condition = request.headers.get("If-Range", "").strip()
    if condition and condition != etag and parse_http_date_safe(condition) != modified_s:
        return None
    return first, last


def _window(asked: tuple[str, str], size: int) -> tuple[int, int]:
    """The half-open byte window of a range; empty when it cannot be satisfied."""
    first, last = asked
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size

"""Released models by name, and how they are fetched: by https alone, within bounds of size and time. Only an operator's command does so."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.parse import urlsplit

from scheduling.instanseg.bundles import MAX_MODEL_BYTES
from scheduling.instanseg.facts import ModelUnusable

_RELEASES = "https://github.com/instanseg/instanseg/releases/download"
#: As instanseg-torch 0.1.2 lists them. The first alone sees red, green and blue; the others are refused by the probe.
INDEX = {
    name: f"{_RELEASES}/instanseg_models_v{version}/{name}.zip"
    for name, version in (("brightfield_nuclei", "0.1.1"), ("fluorescence_nuclei_and_cells", "0.1.1"), ("single_channel_nuclei", "0.1.2"))
}
ANSWER_S = 30.0
IN_ALL_S = 1800.0
_CHUNK_BYTES = 2**20


class NotDownloaded(Exception):
    """The network did not give the file; the message says why."""


def download(url: str, target: Path) -> None:
    """Fetch into a new file. Raises NotDownloaded, ModelUnusable for one that is too large, OSError when it cannot be written."""
    _check_scheme(url)
    request = urllib.request.Request(url, headers={"User-Agent": "workflow-scheduler"})
    with _network(url):
        answer = urllib.request.build_opener(_HttpsAlone).open(request, timeout=ANSWER_S)
    left, deadline = MAX_MODEL_BYTES, time.monotonic() + IN_ALL_S
    with answer, target.open("xb") as out:
        while chunk := _next(answer, url):
            left -= len(chunk)
            if left < 0:
                raise ModelUnusable(f"What is sent is larger than {MAX_MODEL_BYTES // 2**30} GiB.")
            if time.monotonic() > deadline:
                raise NotDownloaded(f"not complete after {IN_ALL_S / 60:.0f} minutes")
            out.write(chunk)
        if answer.length:  # the library takes the end of the connection for that of the file
            raise NotDownloaded(f"{urlsplit(url).hostname}: the connection ended {answer.length:,} bytes before the file did")


def _next(answer: IO[bytes], url: str) -> bytes:
    with _network(url):
        return answer.read(_CHUNK_BYTES)


@contextmanager
def _network(url: str) -> Iterator[None]:
    """Whatever fails in here is the network's."""
    try:
        yield
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()
        reason = getattr(error, "reason", "") or str(error) or type(error).__name__
        raise NotDownloaded(f"{urlsplit(url).hostname}: {reason}") from error


class _HttpsAlone(urllib.request.HTTPRedirectHandler):
    """Follows redirections to https alone."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """As the library's. Raises NotDownloaded."""
        try:
            _check_scheme(newurl)
        except NotDownloaded:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_scheme(url: str) -> None:
    if urlsplit(url).scheme != "https":
        raise NotDownloaded(f"{url} is not https")

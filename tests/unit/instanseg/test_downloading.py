"""Fetching a released model: by https alone, from a server that this test runs, within bounds; and when there is no network."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from scheduling.instanseg import downloading
from scheduling.instanseg.downloading import INDEX, NotDownloaded, download
from scheduling.instanseg.facts import ModelUnusable

CONTENT = b"model" * 100_000


class Handler(BaseHTTPRequestHandler):
    """Gives a file, whole or cut, or leads elsewhere."""

    def do_GET(self) -> None:
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
        elif self.path == "/missing":
            self.send_error(404)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[: 1000 if self.path == "/cut" else None])

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, with its key, for an hour."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, now - timedelta(hours=1), now + timedelta(hours=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    made = builder.sign(key, hashes.SHA256())
    file = tmp_path_factory.mktemp("tls") / "pair.pem"
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(made.public_bytes(pem) + secret)
    return file


@pytest.fixture
def server(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where a server answers by https that this process trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving.socket = context.wrap_socket(serving.socket, server_side=True)
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    thread.join()
    serving.server_close()


def refusal(url: str, tmp_path: Path) -> str:
    with pytest.raises(NotDownloaded) as refused:
        download(url, tmp_path / "got.zip")
    return str(refused.value)


def test_a_file_arrives_whole_also_by_a_redirection(server: str, tmp_path: Path) -> None:
    download(f"{server}/model.zip", tmp_path / "a")
    download(f"{server}/to/{server}/model.zip", tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == CONTENT


def test_only_https_is_followed(server: str, tmp_path: Path) -> None:
    assert "is not https" in refusal(server.replace("https", "http"), tmp_path)
    assert "is not https" in refusal(f"{server}/to/http://127.0.0.1:1/", tmp_path)
    assert "is not allowed" in refusal(f"{server}/to/file:///etc/passwd", tmp_path)
    assert not (tmp_path / "got.zip").exists()


def test_a_certificate_that_nobody_signed_is_refused(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    assert "certificate verify failed" in refusal(f"{server}/model.zip", tmp_path)


def test_what_is_too_large_is_not_read_to_its_end(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "MAX_MODEL_BYTES", len(CONTENT) - 1)
    with pytest.raises(ModelUnusable, match="is larger than"):
        download(f"{server}/model.zip", tmp_path / "got.zip")


def test_what_takes_too_long_is_given_up(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "IN_ALL_S", -1.0)
    assert "not complete after" in refusal(f"{server}/model.zip", tmp_path)


def test_the_reason_is_told_when_the_server_or_the_network_does_not_give_it(server: str, tmp_path: Path) -> None:
    assert refusal(f"{server}/missing", tmp_path) == "127.0.0.1: Not Found"
    assert "127.0.0.1: " in refusal("https://127.0.0.1:1/model.zip", tmp_path)
    (tmp_path / "got.zip").unlink(missing_ok=True)
    assert "the connection ended 499,000 bytes before the file did" in refusal(f"{server}/cut", tmp_path)


def test_the_released_models_are_fetched_from_where_instanseg_releases_them() -> None:
    assert set(INDEX) == {"brightfield_nuclei", "fluorescence_nuclei_and_cells", "single_channel_nuclei"}
    assert INDEX["brightfield_nuclei"].endswith("/instanseg_models_v0.1.1/brightfield_nuclei.zip")
    assert all(url.startswith("https://github.com/instanseg/instanseg/releases/download/") for url in INDEX.values())

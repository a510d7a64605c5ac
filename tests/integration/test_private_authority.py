"""A ClickHouse whose certificate a private authority signed: reached with that authority's file, refused without."""

import http.server
import ssl
import subprocess
import threading

import pytest

from infra import diagnosis
from infra.exit_codes import EXIT_CONFIGURATION
from tests.parts import program


class Ping(http.server.BaseHTTPRequestHandler):
    """Answers as ClickHouse's /ping does."""

    def do_GET(self):
        self.send_response(200 if self.path == "/ping" else 404)
        self.end_headers()
        self.wfile.write(b"Ok.\n")

    def log_message(self, *_):
        pass


class Quiet(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """A client that refuses the certificate is what is tested."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    folder = tmp_path_factory.mktemp("authority")
    key, certificate = folder / "key.pem", folder / "ca.pem"
    extensions = ("subjectAltName=IP:127.0.0.1", "keyUsage=critical,digitalSignature,keyCertSign")
    subprocess.run(
        [
            *(program("openssl"), "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=test"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-keyout", str(key), "-out", str(certificate)),
            *(word for extension in extensions for word in ("-addext", extension)),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return certificate, key


@pytest.fixture
def url(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority)
    with Quiet(("127.0.0.1", 0), Ping) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_doctor_reaches_it_with_the_authority_of_the_settings(monkeypatch, authority, url):
    monkeypatch.setenv("INFERWATCH_CLICKHOUSE_URL", url)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nothing listens there, and nobody asks
    unknown = diagnosis.check_clickhouse_server()
    assert (unknown.verdict, unknown.exit_code) == ("fail", EXIT_CONFIGURATION)
    assert "INFERWATCH_CLICKHOUSE_CA_LOCATION" in unknown.remedy
    monkeypatch.setenv("INFERWATCH_CLICKHOUSE_CA_LOCATION", str(authority[0]))
    assert diagnosis.check_clickhouse_server().verdict == "ok"

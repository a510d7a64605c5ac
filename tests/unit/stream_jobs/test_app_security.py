"""TLS and SASL settings reach Faust's Kafka client."""

import ssl

import faust
import pytest

from infra.settings import KafkaSettings
from stream_jobs import app


def settings(protocol, **more):
    user = {"sasl_username": "shop", "sasl_password": "hunter2"} if protocol.startswith("SASL") else {}
    return KafkaSettings(bootstrap_servers="a:1", security_protocol=protocol, **user, **more)


class Context:
    """Notes what a TLS context is told."""

    def __init__(self, cafile):
        self.cafile, self.chain = cafile, None

    def load_cert_chain(self, *arguments):
        self.chain = arguments


@pytest.fixture
def contexts(monkeypatch):
    made = []

    def create(cafile=None):
        made.append(Context(cafile))
        return made[-1]

    monkeypatch.setattr(app.ssl, "create_default_context", create)
    return made


def test_plain_text_has_no_credentials():
    assert app._credentials(settings("PLAINTEXT")) is None


def test_tls_checks_the_server_with_the_given_authority_and_shows_our_certificate(contexts, tmp_path):
    files = {
        "ssl_ca_location": tmp_path / "ca.pem",
        "ssl_certificate_location": tmp_path / "mine.pem",
        "ssl_key_location": tmp_path / "mine.key",
        "ssl_key_password": "open",
    }
    for name in ("ca.pem", "mine.pem", "mine.key"):
        (tmp_path / name).touch()
    found = app._credentials(settings("SSL", **files))
    assert isinstance(found, faust.SSLCredentials)
    [context] = contexts
    assert found.context is context
    assert context.cafile == str(tmp_path / "ca.pem")
    assert context.chain == (tmp_path / "mine.pem", tmp_path / "mine.key", "open")


def test_tls_without_files_trusts_the_systems_authorities(contexts):
    app._credentials(settings("SSL"))
    assert [(one.cafile, one.chain) for one in contexts] == [(None, None)]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_user_password_and_mechanism_reach_the_client(contexts, protocol, mechanism):
    found = app._credentials(settings(protocol, sasl_mechanism=mechanism))
    assert isinstance(found, faust.SASLCredentials)
    assert (found.mechanism.value, found.username, found.password) == (mechanism, "shop", "hunter2")
    assert found.protocol.value == protocol
    assert found.ssl_context is (contexts[0] if protocol == "SASL_SSL" else None)


def test_a_real_context_verifies_the_host():
    context = app._tls(settings("SSL"))
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)

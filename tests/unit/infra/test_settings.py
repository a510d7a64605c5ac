"""Settings: refused in words, secrets from files and never shown."""

import pytest
from click.testing import CliRunner
from pydantic import model_validator

from infra import cli
from infra.settings import ClickHouseSettings, KafkaSettings, Settings, SettingsError, StackSettings, load


def test_defaults_work(monkeypatch):
    monkeypatch.delenv("INFERWATCH_KAFKA_BOOTSTRAP_SERVERS", raising=False)
    assert load(KafkaSettings).bootstrap_servers is None
    assert load(StackSettings).topic_partitions == 6


@pytest.mark.parametrize(
    ("cls", "variable", "value"),
    [
        (KafkaSettings, "INFERWATCH_KAFKA_SECURITY_PROTOCOL", "PLAIN"),
        (KafkaSettings, "INFERWATCH_KAFKA_SESSION_TIMEOUT_MS", "5"),
        (ClickHouseSettings, "INFERWATCH_CLICKHOUSE_URL", "clickhouse:8123"),
        (ClickHouseSettings, "INFERWATCH_CLICKHOUSE_DATABASE", "a b"),
        (StackSettings, "INFERWATCH_KAFKA_PORT", "99999"),
        (StackSettings, "INFERWATCH_TOPIC_PARTITIONS", "many"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_the_way_out(monkeypatch, cls, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load(cls)
    text = str(caught.value)
    assert f"{variable}={value!r}" in text
    assert "Ways out" in text


@pytest.mark.parametrize("port", ["99999", "0", "-1", "eight", "81 23", "8123.5"])
def test_a_port_that_cannot_be_is_refused(monkeypatch, port):
    for cls, variable, value in (
        (ClickHouseSettings, "INFERWATCH_CLICKHOUSE_URL", f"http://db:{port}"),
        (KafkaSettings, "INFERWATCH_KAFKA_BOOTSTRAP_SERVERS", f"a:9092,b:{port}"),
    ):
        monkeypatch.setenv(variable, value)
        with pytest.raises(SettingsError) as caught:
            load(cls)
        assert f"{variable}={value!r}: " in str(caught.value)
        assert "Ways out" in str(caught.value)


@pytest.mark.parametrize("url", ["http://db", "https://db:8443/", "http://[::1]:8123", "http://10.0.0.1:65535"])
def test_a_sound_url_is_taken(monkeypatch, url):
    monkeypatch.setenv("INFERWATCH_CLICKHOUSE_URL", url)
    assert load(ClickHouseSettings).url == url


@pytest.mark.parametrize("servers", ["a:9092", "a:9092, b:9093", "[::1]:9092", "::1", "kafka", "PLAINTEXT://a:9092"])
def test_sound_servers_are_taken(monkeypatch, servers):
    monkeypatch.setenv("INFERWATCH_KAFKA_BOOTSTRAP_SERVERS", servers)
    assert load(KafkaSettings).bootstrap_servers == servers


@pytest.mark.parametrize(
    "url",
    [
        "http://shop:hunter2@db:8123",
        "http://shop:hun/ter2@db:8123",
        "shop:hunter2@db:8123",
        "https://shop:hunter2@db/?x=1",
        "http://db:8123?user=shop&password=hunter2",
    ],
)
def test_a_password_in_an_address_is_refused_and_not_shown(monkeypatch, url):
    monkeypatch.setenv("INFERWATCH_CLICKHOUSE_URL", url)
    with pytest.raises(SettingsError) as caught:
        load(ClickHouseSettings)
    text = str(caught.value)
    assert text.startswith("INFERWATCH_CLICKHOUSE_URL='")
    assert "ter2" not in text
    assert ("INFERWATCH_CLICKHOUSE_USER and INFERWATCH_CLICKHOUSE_PASSWORD" in text) == ("@" in url)


def test_a_password_in_the_servers_is_refused_and_not_shown_by_any_rule(monkeypatch):
    monkeypatch.setenv("INFERWATCH_KAFKA_BOOTSTRAP_SERVERS", "shop:hunter2@a:9092")
    with pytest.raises(SettingsError, match="INFERWATCH_KAFKA_SASL_USERNAME and INFERWATCH_KAFKA_SASL_PASS") as caught:
        load(KafkaSettings)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("cls", "variable"),
    [
        (KafkaSettings, "INFERWATCH_KAFKA_SSL_CA_LOCATION"),
        (KafkaSettings, "INFERWATCH_KAFKA_SSL_CERTIFICATE_LOCATION"),
        (KafkaSettings, "INFERWATCH_KAFKA_SSL_KEY_LOCATION"),
        (ClickHouseSettings, "INFERWATCH_CLICKHOUSE_CA_LOCATION"),
    ],
)
def test_a_file_that_is_not_there_is_refused(monkeypatch, tmp_path, cls, variable):
    for path, why in ((tmp_path / "none.pem", "there is no such file"), (tmp_path, "is a folder")):
        monkeypatch.setenv(variable, str(path))
        with pytest.raises(SettingsError) as caught:
            load(cls)
        assert f"{variable}={str(path)!r}: {why}" in str(caught.value)
    (tmp_path / "ca.pem").touch()
    monkeypatch.setenv(variable, str(tmp_path / "ca.pem"))
    load(cls)


def test_settings_that_do_not_go_together_are_named_in_full(monkeypatch):
    monkeypatch.setenv("INFERWATCH_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    with pytest.raises(SettingsError) as caught:
        load(KafkaSettings)
    assert str(caught.value).startswith(
        "INFERWATCH_KAFKA_SECURITY_PROTOCOL='SASL_SSL', INFERWATCH_KAFKA_SASL_USERNAME unset, "
        "INFERWATCH_KAFKA_SASL_PASSWORD unset: security_protocol SASL_SSL needs sasl_username and sasl_password. Ways"
    )
    monkeypatch.setenv("INFERWATCH_KAFKA_SASL_PASSWORD", "hunter2")
    with pytest.raises(SettingsError) as caught:
        load(KafkaSettings)
    assert "INFERWATCH_KAFKA_SASL_USERNAME unset: security_protocol SASL_SSL needs sasl_username." in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_rule_that_names_no_setting_still_says_whose_it_is():
    class Odd(Settings):
        @model_validator(mode="after")
        def _never(self):
            raise ValueError("never works")

    with pytest.raises(SettingsError, match=r"^INFERWATCH_\*: never works\. Ways out"):
        load(Odd)


def test_a_secret_comes_from_a_file_and_is_not_shown(monkeypatch, tmp_path):
    path = tmp_path / "password"
    path.write_text("hunter2\n")
    monkeypatch.setenv("INFERWATCH_CLICKHOUSE_PASSWORD_FILE", str(path))
    settings = load(ClickHouseSettings)
    assert settings.password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings)
    monkeypatch.setenv("INFERWATCH_CLICKHOUSE_PASSWORD_FILE", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="cannot be read"):
        load(ClickHouseSettings)


def test_help_names_every_command_with_a_sentence():
    result = CliRunner().invoke(cli.inferwatch, ["--help"])
    assert result.exit_code == 0
    assert "First steps" in result.output

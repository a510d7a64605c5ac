"""Settings: refused in words, secrets from files and never shown."""

import pytest
from click.testing import CliRunner
from pydantic import model_validator

from infra import cli
from infra.ports import Fatal, RetryLater
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


def test_the_command_line_ends_with_78(monkeypatch, capsys):
    def wrong():
        raise SettingsError("INFERWATCH_X='1': no. Ways out: unset it.")

    monkeypatch.setattr(cli, "inferwatch", lambda standalone_mode: wrong())
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 78
    assert "INFERWATCH_X" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"), [(Fatal("gone"), 70), (RetryLater("away"), 75), (ConnectionError("away"), 75)]
)
def test_the_exit_code_says_whether_to_try_again(monkeypatch, capsys, error, code):
    def ends(standalone_mode):
        raise error

    monkeypatch.setattr(cli, "inferwatch", ends)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == code
    assert str(error) in capsys.readouterr().err


def test_help_names_every_command_with_a_sentence():
    result = CliRunner().invoke(cli.inferwatch, ["--help"])
    assert result.exit_code == 0
    assert "First steps" in result.output

"""All settings at once: what is wrong is refused before anything starts, unknown names are said."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from infra import cli
from infra.exit_codes import EXIT_CONFIGURATION
from infra.settings import ClickHouseSettings, KafkaSettings, SettingsError
from infra.settings_check import all_settings, check_settings, unknown_variables
from infra.up.server_choice import check_choice
from infra.up.up_cli import up


def test_what_is_wrong_is_said_of_every_part(monkeypatch):
    check_settings(all_settings())
    monkeypatch.setenv("INFERWATCH_WORKER_DEVICE", "tpu")
    monkeypatch.setenv("INFERWATCH_JOBS_SERIES_MAX", "many")
    monkeypatch.setenv("INFERWATCH_KAFKA_PORT", "70000")
    with pytest.raises(SettingsError) as caught:
        check_settings(all_settings())
    for words in (
        "INFERWATCH_WORKER_DEVICE='tpu'",
        "INFERWATCH_JOBS_SERIES_MAX='many'",
        "INFERWATCH_KAFKA_PORT='70000'",
    ):
        assert words in str(caught.value)


def test_a_name_that_nothing_reads_is_said_with_the_nearest_known_one():
    names = [
        "INFERWATCH_KAFKA_BOOTSTRAP_SERVER",
        "INFERWATCH_XYZZY",
        *(
            "INFERWATCH_KAFKA_SASL_PASSWORD_FILE",
            "INFERWATCH_CACHE_DIR",
            "INFERWATCH_DATA",
            "inferwatch_data_dir",
            "HOME",
        ),
    ]
    near, far = unknown_variables(all_settings(), names)
    assert near.startswith("INFERWATCH_KAFKA_BOOTSTRAP_SERVER is set and nothing reads it")
    assert near.endswith("did you mean INFERWATCH_KAFKA_BOOTSTRAP_SERVERS?")
    assert far == "INFERWATCH_XYZZY is set and nothing reads it: docs/settings.md lists all"


def test_up_refuses_a_wrong_setting_of_a_part_before_it_makes_anything(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("INFERWATCH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("INFERWATCH_JOBS_WINDOW_SECONDS", "0")
    monkeypatch.setattr(sys, "argv", ["inferwatch", "up", "--no-traffic"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == EXIT_CONFIGURATION
    assert "INFERWATCH_JOBS_WINDOW_SECONDS='0'" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


SERVERS, URL = "INFERWATCH_KAFKA_BOOTSTRAP_SERVERS", "INFERWATCH_CLICKHOUSE_URL"
PROTOCOL = "INFERWATCH_KAFKA_SECURITY_PROTOCOL"


@pytest.mark.parametrize(
    ("given", "flags", "words"),
    [
        ({SERVERS: "kafka:9092"}, (), (f"{SERVERS}='kafka:9092', {URL} unset", "set both", "up --mixed")),
        ({URL: "http://db:8123"}, (), (f"{URL}='http://db:8123', {SERVERS} unset", "set both", "up --mixed")),
        ({PROTOCOL: "SSL"}, (), (f"{PROTOCOL}='SSL', {SERVERS} unset", f"set {SERVERS}", f"unset {PROTOCOL}")),
        ({PROTOCOL: "SSL", URL: "http://db:8123"}, ("--mixed",), (f"{PROTOCOL}='SSL'",)),
    ],
)
def test_up_refuses_servers_that_do_not_go_together(monkeypatch, tmp_path, capsys, given, flags, words):
    monkeypatch.setenv("INFERWATCH_DATA_DIR", str(tmp_path / "data"))
    for name in (SERVERS, URL):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["inferwatch", "up", *flags])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    said = capsys.readouterr().err
    assert caught.value.code == EXIT_CONFIGURATION
    assert [word for word in (*words, "Ways out") if word not in said] == []
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("servers", "url", "mixed"),
    [(None, None, False), ("a:1", "http://b:1", False), ("a:1", None, True), (None, "http://b:1", True)],
)
def test_servers_that_go_together_are_taken(servers, url, mixed):
    check_choice(KafkaSettings(bootstrap_servers=servers), ClickHouseSettings(url=url), mixed)


def test_up_says_unknown_names(monkeypatch, tmp_path):
    monkeypatch.setenv("INFERWATCH_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("INFERWATCH_WORKER_DRILL", "1")
    (tmp_path / "somebody's").write_text("x")

    def end(*_):
        raise SystemExit(0)

    monkeypatch.setattr("infra.up.up_cli._assemble", end)
    result = CliRunner().invoke(up)
    assert (
        "INFERWATCH_WORKER_DRILL is set and nothing reads it: did you mean INFERWATCH_WORKER_DRILLS?" in result.stderr
    )


def test_the_settings_bring_no_heavy_library_along():
    code = (
        "import sys; from infra.settings_check import all_settings; all_settings()\n"
        "print(sorted({'torch', 'faust', 'transformers', 'river', 'numpy', 'pyarrow', 'chdb'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert shown.stdout.strip() == "[]"

"""`inferwatch doctor`: verdicts, exit codes and the two forms of its answer, on findings made up here."""

import fcntl
import hashlib
import json

import pytest
from click.testing import CliRunner

from infra import diagnosis, diagnosis_parts, doctor
from infra.diagnosis import Finding
from infra.exit_codes import EXIT_CONFIGURATION, EXIT_TRY_AGAIN
from infra.settings import SettingsError

OK = Finding("a", "ok", "fine")
WARN = Finding("b", "warn", "slow", "be patient")
DOWN = Finding("c", "fail", "server down", "start it", EXIT_TRY_AGAIN)
WRONG = Finding("d", "fail", "setting wrong", "correct it")


@pytest.mark.parametrize(
    ("findings", "code"),
    [([], 0), ([OK, WARN], 0), ([OK, DOWN], EXIT_TRY_AGAIN), ([DOWN, WRONG, OK], EXIT_CONFIGURATION)],
)
def test_exit_code(findings, code):
    assert doctor.exit_code_of(findings) == code


def test_lines_say_what_to_do(monkeypatch):
    monkeypatch.setattr(doctor, "CHECKS", (lambda: OK, lambda: DOWN))
    result = CliRunner().invoke(doctor.doctor)
    assert result.exit_code == EXIT_TRY_AGAIN
    assert "fail  c                  server down\n" in result.output
    assert "-> start it" in result.output
    assert "doctor: 2 checks, 1 failed, 0 warnings" in result.output


def test_json_is_one_object(monkeypatch):
    monkeypatch.setattr(doctor, "CHECKS", (lambda: WARN,))
    result = CliRunner().invoke(doctor.doctor, ["--json"])
    assert result.exit_code == 0
    assert json.loads(result.output) == {
        "exit_code": 0,
        "checks": [{"name": "b", "verdict": "warn", "found": "slow", "remedy": "be patient"}],
    }


def test_a_check_that_fails_is_a_finding():
    def check_thing() -> Finding:
        raise RuntimeError("boom")

    finding = doctor.examine(check_thing)
    assert (finding.name, finding.verdict) == ("thing", "fail")
    assert "boom" in finding.found


def test_wrong_settings_are_reported_once():
    def check_server() -> Finding:
        raise SettingsError("URL is wrong")

    assert doctor.examine(check_server).verdict == "warn"


@pytest.mark.parametrize(("free", "verdict"), [(1e9, "fail"), (3e9, "warn"), (5e9, "ok")])
def test_memory(free, verdict):
    assert diagnosis.memory_finding(int(free)).verdict == verdict


def test_wrong_settings_are_named(monkeypatch):
    monkeypatch.setenv("INFERWATCH_CLICKHOUSE_URL", "no-url")
    finding = diagnosis.check_settings()
    assert finding.verdict == "fail"
    assert "INFERWATCH_CLICKHOUSE_URL" in finding.found


def test_wrong_settings_of_the_applications_are_named_and_unknown_names_are_a_warning(monkeypatch):
    monkeypatch.setenv("INFERWATCH_KAFKA_BOOTSTRAP_SERVER", "a:1")
    finding = diagnosis.check_settings()
    assert finding.verdict == "warn"
    assert "INFERWATCH_KAFKA_BOOTSTRAP_SERVERS" in finding.found
    monkeypatch.setenv("INFERWATCH_WORKER_WAIT_MS_MAX", "soon")
    monkeypatch.setenv("INFERWATCH_JOBS_WINDOW_SECONDS", "-1")
    finding = diagnosis.check_settings()
    assert finding.verdict == "fail"
    assert "INFERWATCH_WORKER_WAIT_MS_MAX='soon'" in finding.found
    assert "INFERWATCH_JOBS_WINDOW_SECONDS='-1'" in finding.found


def test_other_weights_are_refused(tmp_path, monkeypatch):
    package = tmp_path / "some_model"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "model" / "model.safetensors").write_bytes(b"other")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(diagnosis_parts, "MODEL_PACKAGE", "some_model")
    assert diagnosis_parts.check_model().verdict == "fail"
    monkeypatch.setattr(diagnosis_parts, "MODEL_SHA256", hashlib.sha256(b"other").hexdigest())
    assert diagnosis_parts.check_model().verdict == "ok"


def test_a_crash_of_native_code_is_an_exit_code():
    code, _ = diagnosis_parts.probe("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert code < 0


def test_a_folder_in_use_names_its_owner(tmp_path, monkeypatch):
    monkeypatch.setenv("INFERWATCH_DATA_DIR", str(tmp_path))
    (tmp_path / "kafka").mkdir()
    lock = tmp_path / "kafka" / "lock"
    lock.write_text("123\n")
    assert "free" in diagnosis_parts.check_data_folder().found
    with open(lock) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "kafka (process 123)" in diagnosis_parts.check_data_folder().found


def test_changed_jars_are_found(tmp_path, monkeypatch):
    from infra.embedded import kafka_runtime

    monkeypatch.setenv("INFERWATCH_CACHE_DIR", str(tmp_path))
    assert "yet" in diagnosis_parts.check_kafka_jars().found
    jar = (
        tmp_path
        / f"kafka-{kafka_runtime.KAFKA_VERSION}"
        / next(iter(kafka_runtime.read_jar_list(kafka_runtime.JAR_LIST)))
    )
    jar.parent.mkdir(parents=True)
    jar.write_bytes(b"not it")
    finding = diagnosis_parts.check_kafka_jars()
    assert finding.verdict == "fail"
    assert jar.name in finding.found

import pytest

from infra.settings import SettingsError, load
from stream_jobs.settings import JobSettings


def test_the_defaults_work_and_every_setting_is_described(monkeypatch):
    settings = load(JobSettings)
    assert settings.window_ms == 10_000
    assert settings.group == "stream-jobs-score"
    assert all(field.description for field in JobSettings.model_fields.values())


@pytest.mark.parametrize(("name", "value"), [("WINDOW_SECONDS", "0.5"), ("GROUP", "a b"), ("LEARNING_WINDOWS", "1")])
def test_a_setting_that_cannot_work_is_named_with_its_value(monkeypatch, name, value):
    monkeypatch.setenv("INFERWATCH_JOBS_" + name, value)
    with pytest.raises(SettingsError, match=f"INFERWATCH_JOBS_{name}='{value}'.*Ways out"):
        load(JobSettings)


def test_lateness_is_bounded_in_windows():
    assert load(JobSettings, allowed_lateness_seconds=10_000).allowed_lateness_ms == 10_000_000
    with pytest.raises(SettingsError, match=r"LATENESS_SECONDS=86400.0.*more than 1000 windows.*lower it to 10000"):
        load(JobSettings, allowed_lateness_seconds=86_400.0)


def test_idle_must_outlast_two_windows():
    with pytest.raises(SettingsError, match="idle_seconds"):
        load(JobSettings, window_seconds=400)


def test_a_detector_that_is_none_is_refused_with_those_there_are():
    assert load(JobSettings, detector="gaussian_scorer").detector == "gaussian_scorer"
    with pytest.raises(SettingsError, match=r"INFERWATCH_JOBS_DETECTOR='best'.*choose one of adwin, .*two_heads"):
        load(JobSettings, detector="best")

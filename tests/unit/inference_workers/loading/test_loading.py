"""From a name to a model that may serve, or the reason why not: nothing is loaded that was not checked before."""

import json
import logging
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from inference_workers.golden import Golden, Sample, Tolerance, record, write_golden
from inference_workers.loading.load import load_servable
from inference_workers.loading.preflight import ModelWanted
from inference_workers.models.manifest import write_manifest
from inference_workers.models.verdicts import LoadingStopped, ModelRefused, Refusal, judged
from inference_workers.ports import DeviceLost, NonFiniteOutput, OutOfMemory
from inference_workers.spec import WorkerSettings
from infra.settings import SettingsError, load
from schemas.base import decode, encode, headers_for
from schemas.deployments import MODEL_EVENT_KINDS, Arm, Verdict
from schemas.predictions import Generated
from schemas.requests import InferenceRequested
from tests.fakes import FakeClock
from tests.tiny_models import Engines, tiny_bert


@pytest.fixture
def folder(tmp_path):
    return tiny_bert(tmp_path / "model")


def load_it(folder, engines=None, wanted=None, **values):
    settings = load(WorkerSettings, model=str(folder), model_name="tiny", version="7", **values)
    wanted = wanted or ModelWanted.of_settings(settings)
    return load_servable(wanted, settings, (engines or Engines()).outside())


def refused(reason, folder, engines=None, wanted=None, **values):
    """The refusal, and that no engine is left open."""
    engines = engines or Engines()
    with pytest.raises(ModelRefused, match="Ways out") as refusal:
        load_it(folder, engines, wanted, **values)
    assert refusal.value.reason is reason
    assert all(engine.closed for engine in engines.made)
    assert refusal.value.facts is not None
    return refusal.value


def with_golden(folder, digest=True, **tolerance):
    """Record golden samples of the model as it is."""
    servable = load_it(folder).servable
    requests = [
        InferenceRequested(input="red shoes"),
        InferenceRequested(input=["", "blue jeans"]),
        InferenceRequested(input=["red hat", "tv"], task="rerank", query="red shoes"),
    ]
    golden = record(servable, requests, Tolerance(**tolerance))
    write_golden(folder / "golden.json", golden if digest else golden.model_copy(update={"digest": None}))


def test_a_good_model_is_ready(folder):
    engines = Engines()
    loaded = load_it(folder, engines)
    servable, facts = loaded.servable, loaded.facts
    assert (servable.ref.name, servable.ref.version, len(servable.ref.digest)) == ("tiny", "7", 64)
    assert servable.tasks == {"embed", "rerank"}
    assert servable.tokens_max == 32
    assert engines.made[0].computed == [[4]], "a short input warmed it up: warm up and two special tokens"
    assert facts.ref == servable.ref
    assert facts.memory_bytes == 700
    assert facts.forecast_bytes > 0
    assert (facts.golden, facts.manifest) == (None, "")


def test_a_model_knows_how_long_it_took(folder):
    class Ticks(FakeClock):
        def monotonic(self):
            self.advance(1.5)
            return super().monotonic()

    settings = load(WorkerSettings, model=str(folder), model_name="tiny", version="7")
    loaded = load_servable(ModelWanted.of_settings(settings), settings, replace(Engines().outside(), clock=Ticks()))
    assert loaded.facts.load_ms >= 1_500
    assert loaded.servable.load_seconds == loaded.facts.load_ms / 1000


STEPS = "read files", "load weights", "use them", "warm up", "golden samples"


@pytest.mark.parametrize(
    ("before", "used"), list(zip(STEPS, [[], [], [False], [False], [True]], strict=True)), ids=list(STEPS)
)
def test_loading_is_stopped_between_its_steps(folder, before, used):
    """`used`: of each engine that was made, whether it computed anything."""
    with_golden(folder)
    engines, asked = Engines(), iter(STEPS)
    settings = load(WorkerSettings, model=str(folder), model_name="tiny", version="7", warm_up="full")
    outside = replace(engines.outside(), is_stopped=lambda: next(asked) == before)
    with pytest.raises(LoadingStopped):
        load_servable(ModelWanted.of_settings(settings), settings, outside)
    assert [bool(engine.computed) for engine in engines.made] == used
    assert all(engine.closed for engine in engines.made)


def test_loading_goes_on_while_nobody_stops_it(folder):
    with_golden(folder)
    asked = []
    settings = load(WorkerSettings, model=str(folder), model_name="tiny", version="7")
    outside = replace(Engines().outside(), is_stopped=lambda: bool(asked.append(1)))
    assert load_servable(ModelWanted.of_settings(settings), settings, outside).facts.golden.passed
    assert len(asked) == len(STEPS)


def test_of_an_arm(folder):
    arm = Arm(arm="canary", model=str(folder), model_name="tiny", version="8", share=1.0)
    loaded = load_it("unused", wanted=ModelWanted.of_arm(arm))
    assert loaded.servable.ref.version == "8"
    arm = arm.model_copy(update={"digest": loaded.servable.ref.digest})
    assert load_it("unused", wanted=ModelWanted.of_arm(arm)).servable.ref == loaded.servable.ref
    other = arm.model_copy(update={"digest": "0" * 64})
    refused(Refusal.DIGEST, "unused", wanted=ModelWanted.of_arm(other), digest=loaded.servable.ref.digest)
    hub = arm.model_copy(update={"revision": "a" * 40})
    assert ModelWanted.of_arm(hub).revision == "a" * 40


def test_another_digest_than_asked_for_is_refused_before_anything_is_loaded(folder):
    engines = Engines()
    refusal = refused(Refusal.DIGEST, folder, engines, digest="0" * 64)
    assert engines.made == []
    assert len(refusal.facts.ref.digest) == 64


def test_nothing_there(tmp_path):
    refusal = refused(Refusal.NOT_FOUND, tmp_path / "no")
    assert refusal.facts.source == str(tmp_path / "no")


def test_pickled_weights_and_remote_code(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "evil.Model"}}))
    refused(Refusal.UNSAFE, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(Refusal.UNSAFE, folder)


def test_a_manifest_is_checked_where_there_is_one_and_may_be_required(folder):
    refused(Refusal.MANIFEST, folder, manifest_required=True)
    write_manifest(folder)
    assert load_it(folder, manifest_required=True).facts.manifest == "inferwatch-manifest.json"
    tiny_bert(folder, seed=1)
    engines = Engines()
    refusal = refused(Refusal.MANIFEST, folder, engines)
    assert "model.safetensors" in str(refusal)
    assert engines.made == []


def test_too_little_memory(folder, caplog):
    engines = Engines(free=1_000_000)
    refusal = refused(Refusal.MEMORY, folder, engines)
    assert engines.made == []
    assert refusal.facts.forecast_bytes > 1_000_000
    assert "0.00 GB are free" in str(refusal)
    with caplog.at_level(logging.WARNING):
        load_it(folder, engines, memory_forecast="warn")
    assert "loaded all the same" in caplog.text


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("encoder.layer.0"), Refusal.LOAD_ERROR),
        (RuntimeError("CUDA out of memory"), Refusal.MEMORY),
        (OutOfMemory("of the device"), Refusal.MEMORY),
        (MemoryError(), Refusal.MEMORY),
        (NonFiniteOutput("NaN while warming up"), Refusal.LOAD_ERROR),
        (SettingsError("DTYPE=bfloat16: no. Ways out: float32."), Refusal.UNSUPPORTED),
        (ModelRefused(Refusal.UNSUPPORTED, "an architecture. Ways out: another."), Refusal.UNSUPPORTED),
    ],
)
def test_whatever_loading_raises_is_the_models_failure(folder, error, reason):
    refused(reason, folder, Engines(error=error))


class Failing(Engines):
    """Engines that load and then fail to compute."""

    def __init__(self, failure):
        super().__init__()
        self.failure = failure

    def load_engine(self, settings, model):
        loaded = super().load_engine(settings, model)
        loaded.engine.error = self.failure
        return loaded


def test_what_cannot_compute_is_refused_and_closed(folder):
    refused(Refusal.LOAD_ERROR, folder, Failing(NonFiniteOutput("NaN")))
    refused(Refusal.LOAD_ERROR, folder, Failing(IndexError("index out of range in self")))


def test_a_lost_device_is_no_verdict_on_the_model(folder):
    engines = Failing(DeviceLost("assert"))
    with pytest.raises(DeviceLost):
        load_it(folder, engines)
    assert engines.made[0].closed


def test_a_broken_tokeniser(folder):
    (folder / "tokenizer.json").write_text("{")
    refused(Refusal.UNSUPPORTED, folder)
    (folder / "tokenizer.json").unlink()
    refused(Refusal.UNSUPPORTED, folder)


def test_a_tokeniser_of_more_tokens_than_embeddings(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 10}))
    assert "knows 14 tokens" in str(refused(Refusal.UNSUPPORTED, folder))


def test_golden_samples_pass_on_what_they_were_made_with(folder):
    with_golden(folder)
    engines = Engines()
    loaded = load_it(folder, engines, golden_required=True)
    assert loaded.facts.golden is not None
    assert (loaded.facts.golden.samples, loaded.facts.golden.passed) == (3, True)
    assert loaded.facts.golden.worst < 1e-6
    assert engines.made[0].computed == [[4], [2], [4], [4], [4], [3]], "each sample once, and no other warm-up"


def test_a_model_that_answers_otherwise_is_refused(folder):
    with_golden(folder)
    refusal = refused(Refusal.GOLDEN, folder, Engines(skew=0.5))
    assert refusal.facts.golden is not None
    assert not refusal.facts.golden.passed
    assert refusal.facts.golden.worst > refusal.facts.golden.tolerance
    assert load_it(folder, Engines(skew=0.001)).facts.golden.passed, "a little is tolerated"


def test_other_weights_under_the_same_samples(folder):
    with_golden(folder, digest=False)
    tiny_bert(folder, seed=1)
    refused(Refusal.GOLDEN, folder)


def test_golden_samples_may_be_required(folder):
    refused(Refusal.GOLDEN, folder, golden_required=True)


def test_a_sample_that_cannot_be_computed_is_a_no(folder):
    request = InferenceRequested(input="a", task="generate")
    outputs = [Generated(text="b", tokens=1, finish_reason="stop")]
    write_golden(folder / "golden.json", Golden(samples=[Sample(request=request, outputs=outputs)]))
    assert "does not generate" in str(refused(Refusal.GOLDEN, folder))


@pytest.mark.parametrize(
    ("architecture", "labels", "requests"),
    [
        ("BertForSequenceClassification", 3, [InferenceRequested(input="red shoes", task="classify")]),
        (
            "BertForSequenceClassification",
            1,
            [InferenceRequested(input=["red shoes", "tv"], task="rerank", query="shoes", top_n=1)],
        ),
        ("BertLMHeadModel", 0, [InferenceRequested(input="red shoes", task="generate")]),
    ],
)
def test_the_other_tasks(tmp_path, architecture, labels, requests):
    folder = tiny_bert(tmp_path / "model", architecture=architecture, labels=labels)
    if requests[0].task == "generate":
        requests = [InferenceRequested(input="red", task="generate", generation={"max_tokens": 3})]
    servable = load_it(folder).servable
    write_golden(folder / "golden.json", record(servable, requests, Tolerance()))
    assert load_it(folder).facts.golden.passed
    refused(Refusal.GOLDEN, folder, Engines(skew=3.0))


@pytest.mark.parametrize("warm_up", ["short", "full"])
def test_a_regression_has_no_probabilities_of_labels(tmp_path, warm_up):
    """Transformers' text-classification gives its numbers as they are: no answer of ours may hold them."""
    for labels in (1, 2):
        folder = tiny_bert(tmp_path / str(labels), architecture="BertForSequenceClassification", labels=labels)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"problem_type": "regression"}))
    assert load_it(tmp_path / "1", warm_up=warm_up).servable.tasks == {"rerank"}
    assert "2 numbers" in str(refused(Refusal.UNSUPPORTED, tmp_path / "2", warm_up=warm_up))


def test_warm_up_as_set(folder):
    for how, computed in (("none", []), ("short", [[4]]), ("full", [[32] * 4])):
        engines = Engines()
        load_it(folder, engines, warm_up=how, batch_tokens_max=128)
        assert engines.made[0].computed == computed


def test_a_full_warm_up_leaves_room_for_a_token_to_be_generated(tmp_path):
    folder = tiny_bert(tmp_path / "model", architecture="BertLMHeadModel")
    engines = Engines()
    load_it(folder, engines, warm_up="full", batch_tokens_max=64, tokens_max=16)
    assert engines.made[0].computed == [[15] * 4]


def test_a_limit_of_tokens_shortens_and_never_lengthens(folder):
    assert load_it(folder, tokens_max=8).servable.tokens_max == 8
    assert load_it(folder, tokens_max=9_999).servable.tokens_max == 32
    [one] = load_it(folder, tokens_max=8).servable.tokeniser.tokenise(["red " * 20])
    assert (len(one.ids), one.truncated) == (8, True)


def read_again(event):
    headers = headers_for(event, event_id="1", source="t", time=datetime(2026, 1, 1, tzinfo=UTC))
    return decode(headers, encode(event), MODEL_EVENT_KINDS).data


def test_a_text_is_cut_at_as_many_bytes_as_are_set(folder):
    [cut] = load_it(folder, text_bytes_max=9).servable.tokeniser.tokenise(["red shoes for kids"])
    [whole] = load_it(folder).servable.tokeniser.tokenise(["red shoes"])
    assert (cut.ids, cut.truncated, whole.truncated) == (whole.ids, True, False)


def test_the_event_of_a_model_that_is_ready(folder):
    with_golden(folder)
    facts = load_it(folder).facts
    event = read_again(judged("w-1", facts, scenarios=["search"]))
    assert (event.verdict, event.reason, event.message) == (Verdict.READY, "", "")
    assert (event.model, event.source, event.scenarios) == (facts.ref, str(folder), ["search"])
    assert event.golden.passed
    assert event.memory_bytes == 700
    assert event.memory_forecast_bytes == facts.forecast_bytes
    assert read_again(judged("w-1", facts, verdict=Verdict.RETIRED)).verdict is Verdict.RETIRED


def test_the_event_of_a_model_that_is_refused(folder):
    with_golden(folder)
    refusal = refused(Refusal.GOLDEN, folder, Engines(skew=0.5))
    event = read_again(judged("w-1", refusal.facts, refusal=refusal))
    assert (event.verdict, event.reason) == (Verdict.REFUSED, "golden")
    assert "cosine" in event.message
    assert not event.golden.passed

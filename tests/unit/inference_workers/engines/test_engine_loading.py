"""Which engine a model gets, and what is refused when it is loaded; how torch's failures are sorted."""

import gc
import subprocess
import sys
import weakref

import pytest
import torch

from inference_workers.engines import loading
from inference_workers.engines.failures import computed, sorted_failure
from inference_workers.engines.linear import PackedLinear, PlainLinear, linear_of
from inference_workers.engines.loading import load_engine
from inference_workers.engines.placement import Placement
from inference_workers.engines.staging import HostStaging
from inference_workers.engines.vectors import VectorEngine
from inference_workers.models.registry import Pooling, head_of
from inference_workers.ports import DeviceLost, EngineError, Head, NonFiniteOutput, OutOfMemory
from infra.settings import SettingsError
from tests.built_models import build, item, placement, settings_of
from tests.parts import default_model, program, takes_long


@pytest.mark.parametrize(
    ("architectures", "head"),
    [
        (["BertForSequenceClassification"], Head.LOGITS),
        (["LlamaForCausalLM"], Head.TOKENS),
        (["GPT2LMHeadModel"], Head.TOKENS),
        (["BertModel"], Head.VECTORS),
        (["CLIPModel"], Head.VECTORS),
        (None, Head.VECTORS),
    ],
)
def test_the_head_is_what_the_architecture_is_called(architectures, head):
    assert head_of({"architectures": architectures}) is head


def test_the_default_model_is_described_and_needs_no_transformers():
    code = (
        "import sys; from infra.settings import load; from inference_workers.spec import WorkerSettings;"
        "from inference_workers.engines.loading import load_engine;"
        "from inference_workers.models.registry import find_model;"
        "found = load_engine(load(WorkerSettings, device='cpu', dtype='float32'), find_model(sys.argv[1]));"
        "slow = {'transformers', 'torchao', 'PIL'} & set(sys.modules);"
        "print(found.head, found.images, found.description, sorted(slow))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(default_model().path)], capture_output=True, text=True, timeout=120, check=True
    )
    head, images, device, *_, last = ran.stdout.split()
    assert (head, images, device, last) == ("vectors", "False", "cpu", "[]")
    assert "float32" in ran.stdout


@pytest.mark.parametrize(
    ("kind", "values", "named"),
    [
        ("GPT2LMHeadModel", {"compile": True}, "COMPILE=True"),
        ("GPT2LMHeadModel", {"dtype": "int8"}, "DTYPE=int8"),
        ("BertModel", {"batch_tokens_max": 32}, "BATCH_TOKENS_MAX=32"),
    ],
)
def test_what_cannot_work_is_refused_with_ways_out(tmp_path, kind, values, named):
    with pytest.raises(SettingsError, match=r"Ways out: .*; or ") as refusal:
        load_engine(settings_of(**values), build(tmp_path, kind))
    assert f"INFERWATCH_WORKER_{named}" in str(refusal.value)


def test_a_compiler_that_is_not_there_is_named(tmp_path, monkeypatch):
    def failing(_, **__):
        def fails(*_):
            raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found")

        return fails

    monkeypatch.setattr(torch, "compile", failing)
    with pytest.raises(SettingsError, match=r"COMPILE=True: torch\.compile failed: .*No working C\+\+ compiler"):
        load_engine(settings_of(compile=True), build(tmp_path, "BertModel"))


@pytest.mark.timeout(600)  # three programs are compiled: 20 s on idle cores, and these are shared
def test_a_compiled_model_gives_the_same(tmp_path):
    takes_long("compiling a model")
    program("g++")
    model = build(tmp_path, "BertModel", num_hidden_layers=1)
    usual, built = load_engine(settings_of(), model), load_engine(settings_of(compile=True), model)
    assert built.description.endswith("float32 compiled")
    for items in ([item(5, 6, 7), item(8)], [item(4, 4), item(5, 6)], [item(9)], [item(*range(3, 20)), item(3)] * 3):
        assert abs(built.engine.compute(items).rows - usual.engine.compute(items).rows).max() < 1e-4


def test_a_model_that_fails_is_given_back(tmp_path, monkeypatch):
    made = []
    usual = loading._vector_engine
    monkeypatch.setattr(loading, "_vector_engine", lambda *given: made.append(usual(*given)) or made[-1])
    with pytest.raises(NonFiniteOutput):
        load_engine(settings_of(), build(tmp_path, "BertModel", poison=True))
    assert not hasattr(made[0], "_encoder"), "closed"


@pytest.mark.parametrize("kind", ["BertModel", "DistilBertForSequenceClassification", "LlamaForCausalLM"])
def test_integers_give_nearly_the_same(tmp_path, kind):
    from inference_workers.ports import Sampling

    model = build(tmp_path, kind)
    whole = load_engine(settings_of(), model)
    narrow = load_engine(settings_of(dtype="int8"), model)
    assert narrow.description.endswith("int8")
    items = [item(5, 6, 7, sampling=Sampling(1)), item(8, 9, sampling=Sampling(1))]
    left, right = whole.engine.compute(items).rows, narrow.engine.compute(items).rows
    if whole.head is Head.TOKENS:
        assert [one.probability for one in left] == pytest.approx([one.probability for one in right], abs=0.15)
    else:
        cosines = (left * right).sum(1) / ((left**2).sum(1) * (right**2).sum(1)) ** 0.5
        assert cosines.min() > 0.98
        assert (left != right).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", [1, 7])
def test_layers_agree_however_they_are_computed(dtype, rows):
    torch.manual_seed(0)
    weight, bias, x, more = (torch.randn(shape).to(dtype) for shape in ((24, 16), (24,), (rows, 16), (rows, 24)))
    plain = PlainLinear(lambda given: torch.nn.functional.linear(given, weight, bias))
    chosen = linear_of(weight, bias, Placement("cpu", dtype, False, False, HostStaging()))
    assert isinstance(chosen, PackedLinear | PlainLinear)
    if dtype == torch.float16:
        assert isinstance(chosen, PlainLinear)
    close = {"rtol": 5e-2, "atol": 5e-2} if dtype != torch.float32 else {"rtol": 1e-4, "atol": 1e-5}
    with torch.inference_mode():
        assert torch.allclose(chosen(x), plain(x), **close)
        assert torch.allclose(chosen.added(x, more), plain.added(x, more), **close)
        for name in ("gelu", "relu"):
            assert torch.allclose(chosen.activated(x, name), plain.activated(x, name), **close)


class Says:
    """An encoder that fails as a test wants."""

    def __init__(self, error):
        self.error = error

    def encode(self, items, *, first_only=False):
        raise self.error


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), OutOfMemory),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), OutOfMemory),
        (MemoryError("Unable to allocate 8 GiB"), OutOfMemory),
        (RuntimeError("CUDA error: device-side assert triggered"), DeviceLost),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), DeviceLost),
        (RuntimeError("shape mismatch"), EngineError),
    ],
)
def test_failures_are_sorted(error, fate):
    engine = VectorEngine(Says(error), Pooling.MEAN, normalise=True, placement=placement())
    with pytest.raises(fate):
        engine.compute([item(1, 2)])
    assert type(sorted_failure(error)) is fate


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("poisoned", [False, True])
def test_an_error_of_a_library_on_a_poisoned_device_is_a_lost_device(monkeypatch, memory, poisoned):
    """No device here: a stand-in whose every call fails once its context is poisoned."""

    def called():
        if poisoned:
            raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", called)
    monkeypatch.setattr(torch.cuda, "empty_cache", called)
    words = "CUDA out of memory" if memory else "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling cublasGemmEx"

    def run():
        raise RuntimeError(words)

    with pytest.raises(DeviceLost if poisoned else OutOfMemory if memory else EngineError) as failure:
        computed(run)
    assert words in str(failure.value)
    assert failure.value.__context__ is None, "a traceback would hold the tensors"


def test_memory_that_ran_out_is_free_when_it_is_told():
    kept = []

    def run():
        taken = torch.zeros(1_000)
        kept.append(weakref.ref(taken))
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(OutOfMemory) as refusal:
        computed(run)
    gc.collect()
    assert kept[0]() is None, "the failure's traceback holds the tensors"
    assert refusal.value.__context__ is None

